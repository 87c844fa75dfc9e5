"""A NATS cluster of three with three copies of each stream, whose leader is killed and then cut off under load."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.faults.row import Plan, Row
from tests.support import parts
from tests.support.cluster import Cluster, cluster
from tests.support.ledger import Fault, read_journal
from tests.support.providers import provider
from tests.support.receiver import receiver
from tests.support.scene import ENVIRON, settled, stack_file
from tests.support.traffic import Traffic

CALLS = 1500
CONNECTIONS = 16
CUT_OFF_S = 8.0
QUEUE = "OF_faas-request"
REPLICATED = {**ENVIRON, "nats_stream_replicas": "3", "ack_wait": "5s"}


async def leader_killed(plan: Plan) -> AsyncIterator[Row]:
    """The leader of the queue is killed, and started again once another leads."""
    yield await _lose_leader(plan, "leader killed", _kill)


async def leader_cut_off(plan: Plan) -> AsyncIterator[Row]:
    """The leader of the queue is cut off from everybody, and comes back to find another one."""
    yield await _lose_leader(plan, "leader cut off", _cut_off)


async def _lose_leader(plan: Plan, what: str, lose: Callable[[Cluster], Awaitable[float]]) -> Row:
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        three, callbacks = await enter(cluster()), await enter(receiver())
        runtime = await enter(provider(stack_file(plan.folder).read_text(), plan.folder))
        await runtime.ready("journal")
        gateway = await enter(parts.gateway(three.url, runtime.url, **REPLICATED))
        await enter(parts.worker(three.url, runtime.url, gateway_url=gateway.url, **REPLICATED))
        traffic = Traffic(lambda: gateway.url, "journal", callbacks.url, seed=plan.seed)
        sending = asyncio.create_task(traffic.send(CALLS, CONNECTIONS))
        await traffic.accepted(CALLS // 4, timeout_s=120)
        began = time.monotonic()
        led_again = await lose(three)
        faults = [Fault(what, began, time.monotonic())]
        await sending
        drawn = await settled(traffic, callbacks, lambda: read_journal(plan.folder / "journal"), faults)
        refused = sum(traffic.sent.refused.values())
        return Row(what, drawn, f"another led after {led_again:.1f} s, {refused} refused meanwhile")


async def _kill(three: Cluster) -> float:
    leader = await three.leader(QUEUE)
    began = time.monotonic()
    leader.kill()
    await three.leader(QUEUE, other_than=leader)
    led_again = time.monotonic() - began
    leader.start()
    return led_again


async def _cut_off(three: Cluster) -> float:
    leader = await three.leader(QUEUE)
    began = time.monotonic()
    three.cut_off(leader)
    await three.leader(QUEUE, other_than=leader)
    led_again = time.monotonic() - began
    await asyncio.sleep(max(0.0, CUT_OFF_S - led_again))
    three.heal(leader)
    return led_again
