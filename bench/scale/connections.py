"""Many open connections: what each takes up, and what it costs the others that it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.command import say
from bench.holdfast_peer import holdfast
from bench.load import post_request
from bench.meter import cpu_seconds, spent
from bench.peer import Peer
from bench.scale import STACK
from bench.scale.api import api
from bench.scale.idlers import idlers
from bench.scale.measures import Load, accept, memory
from bench.scale.plan import SLOTS, Plan, Table
from bench.scenarios import BODY

MARGIN = 1_000
"""Connections that are allowed beyond those that are measured."""


async def measure(plan: Plan, folder: Path) -> AsyncIterator[Table]:
    """The table of `plan.connections`."""
    allowed = {"max_connections": str(plan.connections + MARGIN)}
    async with holdfast("os", folder, stack=STACK, environ=allowed) as peer, api(peer) as asked, asked.paused():
        rows, failures = [], dict[str, int]()
        request = post_request("/async-function/echo", peer.port, BODY)
        for idle in (0, plan.connections):
            async with idlers() as resting:
                before = memory(peer.parts)["gateway MB"]
                opened = await resting.open(peer.port, idle, request)
                after = memory(peer.parts)["gateway MB"]
                rests = await _idle_ms(peer, plan.seconds)
                load = await accept(peer, plan)
                rows.append(_row(f"{SLOTS} beside {idle:,} that rest", load))
                rows[-1] |= {"KB each": (after - before) * 1e3 / idle if idle else None, "gateway at rest ms/s": rests}
                still = await resting.ask(request)
            for answers in (opened, still):
                failures |= {f"status {status}": count for status, count in answers.items() if status != "202"}
            say(str(rows[-1]))
        load = await accept(peer, plan, connections=plan.connections)
        rows.append(_row(f"{plan.connections:,}, all at work", load) | {"KB each": None, "gateway at rest ms/s": None})
        failures |= load.failures
        await peer.queue.purge()
        notes = [f"`max_connections` was {allowed['max_connections']}; its default is 10,000."]
        yield Table("Open connections: `POST /async-function/echo`", rows, notes, failures)


def _row(what: str, load: Load) -> dict[str, Any]:
    return {
        "connections": what,
        "accepted per s": load.per_second,
        "p50 ms": load.p50_ms,
        "p99 ms": load.p99_ms,
        "gateway µs": load.us["gateway"],
        "elsewhere": load.elsewhere,
    }


async def _idle_ms(peer: Peer, seconds: float) -> float:
    """CPU milliseconds a second of a gateway that nobody calls."""
    before = cpu_seconds(peer.parts)
    await asyncio.sleep(seconds)
    return spent(before, cpu_seconds(peer.parts))["gateway"] / seconds * 1e3
