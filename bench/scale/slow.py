"""Many slow calls at once on one worker."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench.child import BenchError
from bench.command import say
from bench.holdfast_peer import holdfast
from bench.meter import cpu_seconds, memory_mb, spent
from bench.receiver import receiver
from bench.scale import STACK
from bench.scale.api import api
from bench.scale.measures import memory
from bench.scale.plan import Plan, Table

KEPT = 16
"""One slot in so many is kept for functions of which nothing runs (docs/explain/fairness.md)."""
PATIENCE_S = 60
PATH = "/slow"

_RUNNING = re.compile(r'^queue_worker_function_invocation_inflight\{.*function_name="nap.*\} (\S+)$', re.MULTILINE)


async def measure(plan: Plan, folder: Path) -> AsyncIterator[Table]:
    """The table of `plan.slow` calls of `plan.nap_s` each."""
    slots = plan.slow + plan.slow // (KEPT - 1) + 1
    async with (
        holdfast("os", folder, "--max-inflight", str(slots), stack=STACK) as peer,
        api(peer) as asked,
        receiver() as arrivals,
    ):
        rest = memory(peer.parts)
        async with asked.paused():
            await arrivals.expect(PATH, plan.slow)
            for _ in range(plan.slow):
                await asked.call("nap", f"{plan.nap_s:g}".encode(), arrivals.url(PATH))
            before, began = cpu_seconds(peer.parts), time.monotonic()
        # In the middle of their sleep all of them run, or else they never do at one time.
        await asyncio.sleep(plan.nap_s / 2)
        running = sum(float(found) for found in _RUNNING.findall(await asked.metrics()))
        at_work = memory(peer.parts)
        functions = memory_mb({"function": peer.parts["function"]})["function"]
        done = await arrivals.collect(plan.nap_s + PATIENCE_S)
        took, used = time.monotonic() - began, spent(before, cpu_seconds(peer.parts))
    if done["calls"] != plan.slow:
        raise BenchError(f"{done['calls']} of {plan.slow} slow calls called back")
    row = {
        "calls": plan.slow,
        "each s": plan.nap_s,
        "max_inflight": slots,
        "at once": running,
        "all called back after s": took,
        "worker CPU s": used["worker"],
        "worker MB at rest": rest["worker MB"],
        "at work": at_work["worker MB"],
        "nats-server MB at work": at_work["nats-server MB"],
        "functions MB": functions,
        "called back twice": done["again"],
    }
    say(str(row))
    notes = [f"One slot in {KEPT} is kept for functions of which nothing runs, so `max_inflight` is larger than calls."]
    yield Table("Slow calls at once on one worker, with callback", [row], notes)
