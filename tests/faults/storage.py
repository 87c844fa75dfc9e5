"""What happens to NATS's storage: a restart, a stream that somebody deletes, a disk that is full."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import nats

from tests.faults.row import Plan, Row
from tests.support.ledger import Fault
from tests.support.scene import Scene, scene
from tests.support.small_disk import small_disk
from tests.support.workshop import workshop

CALLS = 600
CONNECTIONS = 16
RESTARTS = 5
STREAMS = ("OF_faas-request", "HOLDFAST_calls", "HOLDFAST_callbacks", "HOLDFAST_dead")
RECOVERED_S = 60.0
DISK_MB = 12
MORE_THAN_FIT = 20_000
# Calls: a quarter of them fills the disk.
FULL_WITHIN_S = 120.0
FULL_FOR_S = 5.0


async def restarted(plan: Plan) -> AsyncIterator[Row]:
    """nats-server is stopped in order (SIGTERM) and started again, several times under load."""
    async with scene(plan.folder, "--max-inflight", "16") as play:
        traffic = play.traffic(plan.seed)
        sending = asyncio.create_task(traffic.send(CALLS * RESTARTS, CONNECTIONS))
        for restart in range(RESTARTS):
            await traffic.accepted(CALLS * restart + CALLS // 2, timeout_s=120)
            await play.end("nats-server", signal.SIGTERM)
        await sending
        yield Row(f"{RESTARTS} restarts", await play.balance(traffic))


async def deleted(plan: Plan) -> AsyncIterator[Row]:
    """Somebody deletes a stream under load. What stood in it is gone; what comes afterwards is not."""
    async with scene(plan.folder, "--max-inflight", "16") as play:
        for number, stream in enumerate(STREAMS):
            before = play.traffic(plan.seed + number)
            sending = asyncio.create_task(before.send(CALLS, CONNECTIONS))
            await before.accepted(CALLS // 2)
            began = time.monotonic()
            await _delete(play, stream)
            play.faults.append(Fault(f"{stream} deleted", began, time.monotonic()))
            await sending
            recovered = await _recovered(play)
            drawn = await play.balance(before, timeout_s=20)
            gone = len(drawn.lost) + len(drawn.unfinished) + len(drawn.untold)
            yield Row(
                f"{stream}: the calls of that moment",
                drawn,
                f"works again after {recovered - began:.1f} s",
                allowed_lost=gone if stream != "HOLDFAST_dead" else 0,
            )
            after = play.traffic(plan.seed + 100 + number)
            await after.send(CALLS // 2, CONNECTIONS)
            yield Row(f"{stream}: the calls that follow", await play.balance(after))


async def _delete(play: Scene, stream: str) -> None:
    client = await nats.connect(play.server.ready["nats"])
    await client.jetstream().delete_stream(stream)
    await client.close()


async def _recovered(play: Scene) -> float:
    """When a call is accepted, run and recorded again. Nothing tells of that but trying."""
    async with asyncio.timeout(RECOVERED_S):
        while True:
            answer = await play.server.call("/async-function/journal")
            play.probes.add(answer.headers.get("X-Call-Id", ""))
            if answer.status_code == 202:
                where = answer.headers["Location"]
                record = await play.server.call(f"{where}?wait=2s", method="GET")
                if record.status_code == 200 and record.json()["finished_at"] is not None:
                    return time.monotonic()
            await asyncio.sleep(0.1)


async def disk_full(plan: Plan) -> AsyncIterator[Row]:
    """NATS's disk fills up under load, is full for a while, and is made larger."""
    async with small_disk(DISK_MB) as server, workshop(plan.folder, server) as shop:
        traffic = shop.traffic(plan.seed)
        sending = asyncio.create_task(traffic.send(max(plan.calls, MORE_THAN_FIT), CONNECTIONS))
        began = time.monotonic()
        sent = traffic.sent
        async with asyncio.timeout(FULL_WITHIN_S):
            while sum(sent.refused.values()) + len(sent.unanswered) < CONNECTIONS and not sending.done():
                await asyncio.sleep(0.1)
        accepted = len(sent.accepted)
        await asyncio.sleep(FULL_FOR_S)
        refused = sum(sent.refused.values())
        server.grow(DISK_MB * 20)
        # nats-server remembers that a file could not be written, and tries no more: an operator starts it again.
        server.stop()
        await server.start()
        shop.faults.append(Fault("disk full", began, time.monotonic()))
        traffic.no_more = True
        await sending
        more = shop.traffic(plan.seed + 1)
        await more.send(CALLS, CONNECTIONS)
        note = f"full after {accepted} calls, then {refused} refused; made larger, nats-server restarted"
        yield Row("the calls that filled it", await shop.balance(traffic), note)
        yield Row("the calls that follow", await shop.balance(more))
