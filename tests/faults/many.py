"""Many calls that wait, and the one that must not wait for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime

from tests.faults.row import Plan, Row
from tests.support.metrics import metrics_when
from tests.support.scene import Scene, scene
from tests.support.traffic import Kind

CONNECTIONS = 32
MEASURED_WITH = 1500
PARK_TIMEOUT_S = 900.0
PLAIN = (Kind("plain", 1, {}),)
SLOW = (Kind("slow", 1, {"X-Takes": "0.5"}, callback=False),)
PARKED = (Kind("parked", 1, {"X-Plan": "503"}, callback=False),)


async def parked(plan: Plan) -> AsyncIterator[Row]:
    """Calls that wait an hour for their next run, and the speed of new ones beside them."""
    hour = {"initial_retry_wait": "1h", "max_retry_wait": "1h"}
    async with scene(plan.folder, "--max-inflight", "32", environ=hour) as play:
        before = await _per_second(play, plan.seed)
        waiting = play.traffic(plan.seed + 1, PARKED)
        await waiting.send(plan.calls, CONNECTIONS)
        await metrics_when(
            play.server, lambda now: now.total("holdfast_retries_total") >= plan.calls, timeout_s=PARK_TIMEOUT_S
        )
        traffic = play.traffic(plan.seed + 2, PLAIN)
        began = time.monotonic()
        await traffic.send(MEASURED_WITH, CONNECTIONS)
        drawn = await play.balance(traffic)
        after = MEASURED_WITH / (time.monotonic() - began)
        yield Row(f"{plan.calls} calls parked", drawn, f"{before:.0f} calls/s before, {after:.0f} beside them")


async def _per_second(play: Scene, seed: int) -> float:
    traffic = play.traffic(seed, PLAIN)
    began = time.monotonic()
    await traffic.send(MEASURED_WITH, CONNECTIONS)
    await play.balance(traffic)
    return MEASURED_WITH / (time.monotonic() - began)


async def cancel_one(plan: Plan) -> AsyncIterator[Row]:
    """One call in the middle of a long line is cancelled: it never runs, and all others do."""
    calls = plan.calls // 2
    async with scene(plan.folder, "--max-inflight", "32") as play:
        with play.held("worker"):
            traffic = play.traffic(plan.seed, PLAIN)
            await traffic.send(calls, CONNECTIONS)
            middle = list(traffic.sent.accepted)[calls // 2]
            began = time.monotonic()
            answer = await play.server.call(f"/async-function/{middle}", method="DELETE")
            assert answer.status_code == 202, answer.text
            took = time.monotonic() - began
            traffic.sent.cancelled[middle] = time.monotonic()
        drawn = await play.balance(traffic, timeout_s=300)
        never_run = all(run.call_id != middle for run in await asyncio.to_thread(lambda: play.runs))
        assert never_run
        yield Row(f"call {calls // 2} of {calls} cancelled", drawn, f"answered after {took * 1000:.0f} ms, never run")


async def overtaken(plan: Plan) -> AsyncIterator[Row]:
    """A long line of slow calls of one function, and a call of another one, which need not wait for them."""
    calls = plan.calls // 4
    async with scene(plan.folder, "--max-inflight", "64") as play:
        traffic = play.traffic(plan.seed, SLOW)
        await traffic.send(calls, CONNECTIONS)
        answer = await play.server.call("/async-function/other", b"x")
        call_id = answer.headers["X-Call-Id"]
        play.probes.add(call_id)
        record = (await play.server.call(f"/async-function/{call_id}?wait=60s", method="GET")).json()
        waited = datetime.fromisoformat(record["started_at"]) - datetime.fromisoformat(record["accepted_at"])
        drawn = await play.balance(traffic, timeout_s=300)
        note = f"one of another function began {waited.total_seconds() * 1000:.0f} ms after its 202"
        yield Row(f"{calls} slow calls wait", drawn, note)
