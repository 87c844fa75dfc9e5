"""Receivers of callbacks that never answer, beside one that does."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator

from tests.faults.row import Plan, Row
from tests.support.ledger import Balance
from tests.support.receiver import receiver
from tests.support.scene import Scene, scene
from tests.support.traffic import Connection, Kind

HANGING = 1000
PLAIN = (Kind("plain", 1, {}),)
PROBES = 20
CONNECTIONS = 16
DEFAULTS = {"callback_timeout": "10s", "callback_initial_wait": "500ms", "callback_max_wait": "1h", "ack_wait": "10s"}


async def hanging(plan: Plan) -> AsyncIterator[Row]:
    """1,000 callbacks to a receiver that accepts and never answers; the defaults of all settings but the durability."""
    async with receiver() as dead, scene(plan.folder, "--durability", "os", environ=DEFAULTS) as play:
        dead.answer = 0
        calls = max(200, plan.calls // 10)
        before, rate_before = await _healthy(play, plan.seed, calls)
        yield Row("before", before, f"{rate_before:.0f} calls/s run and called back")
        for number in range(HANGING):
            play.probes.add(f"hanging-{plan.seed}-{number}")
        await _send(play, [call_id for call_id in play.probes if call_id.startswith("hanging")], dead.url)
        first, again = await _probe(play, plan.seed)
        beside, rate_beside = await _healthy(play, plan.seed + 1, calls)
        note = (
            f"{rate_beside:.0f} calls/s run and called back; a healthy receiver is called {_both(first)} after the "
            f"202, and again after a failure {_both(again)} after that"
        )
        yield Row(f"beside {HANGING} hanging callbacks", beside, note)
        dead.cut()


def _both(seconds: list[float]) -> str:
    return f"{1000 * statistics.median(seconds):.0f} ms (at most {1000 * max(seconds):.0f})"


async def _healthy(play: Scene, seed: int, calls: int) -> tuple[Balance, float]:
    traffic = play.traffic(seed, PLAIN)
    began = time.monotonic()
    await traffic.send(calls, CONNECTIONS)
    drawn = await play.balance(traffic)
    return drawn, calls / (time.monotonic() - began)


async def _send(play: Scene, ids: list[str], url: str) -> None:
    waiting = iter(ids)

    async def some() -> None:
        connection = Connection(lambda: play.server.url)
        for call_id in waiting:
            headers = {"X-Call-Id": call_id, "X-Callback-Url": url}
            assert (await connection.ask("POST", "/async-function/journal", headers))[0] == 202
        connection.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(some())


async def _probe(play: Scene, seed: int) -> tuple[list[float], list[float]]:
    """One call after the other whose receiver fails once: how long until it is called, and called again."""
    first, again = [], []
    async with receiver() as healthy:
        for number in range(PROBES):
            call_id = f"probe-{seed}-{number}"
            play.probes.add(call_id)
            healthy.answer = 503
            began = time.monotonic()
            await _send(play, [call_id], healthy.url)
            await healthy.wait_for(2 * number + 1)
            healthy.answer = 200
            seen = await healthy.wait_for(2 * number + 2)
            first.append(seen[2 * number].at - began)
            again.append(seen[2 * number + 1].at - seen[2 * number].at)
    return first, again
