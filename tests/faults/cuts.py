"""Connections that end in the middle of a message, again and again under load."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from tests.faults.row import Plan, Row
from tests.support.ledger import Fault
from tests.support.nats import nats_server
from tests.support.proxy import Cut, CuttingProxy
from tests.support.traffic import KINDS, Kind
from tests.support.workshop import Workshop, workshop

CALLS = 400
CUTS = 8
CONNECTIONS = 16
RETRIED = (Kind("retried", 1, {"X-Plan": "503,200"}),)


class Place(NamedTuple):
    """Where a message is cut."""

    what: str
    link: str
    cut: Cut
    kinds: tuple[Kind, ...] = KINDS
    callbacks: int = 200
    """What the receiver answers meanwhile."""


def _places() -> list[Place]:
    def often(direction: str, pattern: bytes, keep: int, every: int = 40) -> Cut:
        return Cut("there" if direction == "there" else "back", pattern, keep, every, CUTS)

    gateway, worker, told = "gateway_link", "worker_link", "callback_link"
    return [
        Place("a call on its way into the queue", gateway, often("there", b"HPUB faas-request.call", 300)),
        Place("the confirmation that it is stored", gateway, often("back", b'{"stream":"OF_', 9)),
        Place("a call on its way to the worker", worker, often("back", b"Holdfast-Call-Id", 20)),
        Place("a record", worker, often("there", b"HPUB holdfast.call.", 200)),
        Place("the confirmation of a record", worker, often("back", b'{"stream":"HOLDFAST_calls', 9)),
        Place("an acknowledgement", worker, often("there", b"$JS.ACK.OF_", 20)),
        Place("a call that is parked for a retry", worker, often("there", b"HPUB faas-request.later", 150), RETRIED),
        Place("a callback that is parked", worker, often("there", b"HPUB holdfast.callback.later", 150), KINDS, 503),
        Place("a callback on its way to the receiver", told, often("there", b"X-Call-Id", 20)),
        Place("the receiver's answer", told, often("back", b"HTTP/1.1 200", 8)),
    ]


async def cut(plan: Plan) -> AsyncIterator[Row]:
    """The connection ends in the middle of a publish, a confirmation, an acknowledgement, a record, a callback."""
    async with nats_server() as server, workshop(plan.folder, server) as shop:
        for number, place in enumerate(_places()):
            yield await _cut(shop, plan.seed + number, place)


async def _cut(shop: Workshop, seed: int, place: Place) -> Row:
    link: CuttingProxy = getattr(shop, place.link)
    traffic = shop.traffic(seed, place.kinds)
    shop.callbacks.answer = place.callbacks
    began = time.monotonic()
    link.cut = place.cut
    await traffic.send(CALLS, CONNECTIONS)
    with contextlib.suppress(TimeoutError):  # the note says how many there were
        await link.cut_made(20)
    link.cut = None
    shop.callbacks.answer = 200
    shop.faults.append(Fault(place.what, began, time.monotonic()))
    drawn = await shop.balance(traffic)
    return Row(place.what, drawn, f"{place.cut.made} cuts")
