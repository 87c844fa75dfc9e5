"""Ids that callers bring, over a real server: who has them, also beside what version 0.1 wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.function import FunctionRef
from holdfast.gateway import unstored
from holdfast.gateway.claims import Claims, Owned
from holdfast.gateway.large_body import LargeBodies
from holdfast.gateway.unstored import Unstored
from holdfast.invocation import CallId, Invocation, new_call_id
from holdfast.queue.bodies import Bodies
from holdfast.queue.chains import Chains
from holdfast.queue.connection import connect
from holdfast.queue.kept_streams import kept_streams
from holdfast.queue.message import to_publish, to_publish_later, was_recorded
from holdfast.queue.publisher import Publisher
from holdfast.queue.records import Records, Stored
from holdfast.queue.topology import ensure_queue
from tests.support.nats import NatsServer
from tests.support.queues import QUEUE, Queue

REQUEST = b"POST / HTTP/1.1\r\n\r\n"
MINE = CallId("order-1001")


@pytest.fixture
async def queue(server: NatsServer) -> AsyncIterator[Queue]:
    settings = server.settings()
    async with connect(settings, name="test") as connection, kept_streams(settings):
        await ensure_queue(settings, QUEUE)
        yield Queue(server, connection)


class Gateway:
    """What of one gateway gives ids."""

    def __init__(self, queue: Queue, tasks: asyncio.TaskGroup, publish_timeout_s: float = 5) -> None:
        connection = queue.connection
        self.publisher = Publisher(connection, 10)
        self.records = Records(connection, self.publisher)
        self.chains = Chains(connection, self.publisher, 3600)
        self.unstored = Unstored(connection, self.records, publish_timeout_s)
        bodies = Bodies(connection, self.publisher)
        large = LargeBodies(bodies, inline_bytes=1, max_body_bytes=1, most_at_once=1, tasks=tasks)
        self.claims = Claims(connection, self.records, self.chains, self.unstored, large)

    async def own(self, brought: CallId, at: datetime | None = None) -> Owned:
        return await self.claims.own(call(brought), QUEUE, at, 0)

    async def accept(self, brought: CallId) -> Invocation:
        owned = await self.own(brought)
        await self.publisher.confirm(*to_publish(QUEUE, owned.invocation))
        return owned.invocation


def call(brought: CallId) -> Invocation:
    own = new_call_id()
    return Invocation(own, own, FunctionRef("f", "ns"), 1, None, REQUEST, chain_id=brought)


@pytest.fixture
async def gateway(queue: Queue) -> AsyncIterator[Gateway]:
    async with asyncio.TaskGroup() as tasks:
        yield Gateway(queue, tasks)


async def test_the_first_has_the_id_and_a_worker_knows_that_it_has_a_record(gateway: Gateway) -> None:
    first = await gateway.accept(MINE)
    assert (first.call_id, first.chain_id, was_recorded(first)) == (MINE, None, True)
    later = [await gateway.accept(MINE) for _ in range(3)]
    assert [(one.chain_id, one.common_id, was_recorded(one)) for one in later] == [(MINE, MINE, False)] * 3
    ids = [one.call_id for one in later]
    assert (await gateway.chains.later(MINE, 2)) == (ids[:2], 1)
    assert [one async for one in gateway.chains.each(MINE)] == ids


async def test_an_id_that_a_gateway_made_is_another_calls_whether_or_not_that_has_a_record(gateway: Gateway) -> None:
    brought = new_call_id()
    later = await gateway.accept(brought)
    assert (later.call_id == brought, later.chain_id) == (False, brought)
    assert await gateway.records.read(brought, surely=True) is None


@pytest.mark.parametrize("delay", [None, timedelta(hours=1)])
async def test_a_call_that_stands_in_a_queue_without_a_record_keeps_its_id(
    gateway: Gateway, delay: timedelta | None
) -> None:
    # As version 0.1 put calls there, with ids of version 4, or as one waits for longer than records are kept.
    old = CallId("4d0b6c1e-43a4-4b1c-9d5e-2f2f3c0a7b11")
    standing = call(old)._replace(call_id=old, message_id=str(old), chain_id=None)
    if delay is None:
        await gateway.publisher.confirm(*to_publish(QUEUE, standing))
    else:
        await gateway.publisher.confirm(*to_publish_later(QUEUE, standing, datetime.now(UTC) + delay))
    assert (await gateway.own(old)).invocation.chain_id == old
    assert await gateway.records.read(old, surely=True) is None


async def test_an_id_is_given_back_when_the_call_is_refused(gateway: Gateway) -> None:
    owned = await gateway.own(MINE)
    assert owned.claim
    await gateway.claims.give_back(owned)
    assert await gateway.records.read(MINE, surely=True) is None
    again = await gateway.own(MINE)
    assert again.invocation.call_id == MINE
    later = await gateway.own(MINE)
    await gateway.claims.give_back(later)
    assert [one async for one in gateway.chains.each(MINE)] == []


async def test_an_id_whose_gateway_died_before_it_stored_the_call_is_free_after_a_while(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.TaskGroup() as tasks:
        gateway = Gateway(queue, tasks)
        dead = await gateway.own(MINE)
        stored = await gateway.records.read(MINE, surely=True)
        assert isinstance(stored, Stored)
        assert not await gateway.unstored.was_never(stored)
        assert (await gateway.own(MINE)).invocation.chain_id == MINE
        monkeypatch.setattr(unstored, "MARGIN_S", 0.0)
        patient = Gateway(queue, tasks, publish_timeout_s=0.0)
        assert await patient.unstored.was_never(stored)
        again = await patient.accept(MINE)
        assert (again.call_id, again.message_id == dead.invocation.message_id) == (MINE, False)
        # Its call stands in the queue now, for however long.
        stored = await gateway.records.read(MINE, surely=True)
        assert isinstance(stored, Stored)
        assert not await patient.unstored.was_never(stored)
        assert (await patient.own(MINE)).invocation.chain_id == MINE
