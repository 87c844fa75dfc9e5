"""A long queue: what it takes up, whether anything gets slower by it, how long another function's call waits."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.child import BenchError
from bench.command import say
from bench.holdfast_peer import holdfast
from bench.load import post_request
from bench.peer import Peer
from bench.scale import STACK
from bench.scale.api import QUEUE, Api, api
from bench.scale.measures import accept, fill, memory, patience_s, run
from bench.scale.plan import Plan, Table
from bench.scenarios import BODY

BYTES_EACH = 3_000
"""Room on the disk for each call: the call, its record, and what nats-server has not tidied up yet."""
LOOKS = 10
OTHERS = 20
"""Calls of another function, one after the other."""


async def measure(plan: Plan, folder: Path) -> AsyncIterator[Table]:
    """Tables of a queue of up to `plan.calls`."""
    free = shutil.disk_usage(folder).free
    if free < plan.calls * BYTES_EACH:
        raise BenchError(
            f"{plan.calls} calls may need {plan.calls * BYTES_EACH / 1e9:.0f} GB, {free / 1e9:.0f} are free"
        )
    async with holdfast("os", folder / "short", stack=STACK) as peer, api(peer) as asked:
        async for table in _Queue(plan, peer, asked, folder / "short" / "data").tables():
            yield table
    async with holdfast("os", folder / "slow", stack=STACK) as peer, api(peer) as asked:
        yield await _overtaken(plan, peer, asked)


class _Queue:
    """One queue as it gets longer, and is emptied."""

    def __init__(self, plan: Plan, peer: Peer, asked: Api, data: Path) -> None:
        self._plan = plan
        self._peer = peer
        self._api = asked
        self._data = data
        self._speeds: list[dict[str, Any]] = []
        self._sizes: list[dict[str, Any]] = []
        self._failures: dict[str, int] = {}

    async def tables(self) -> AsyncIterator[Table]:
        for depth in (0, self._plan.calls // 10, self._plan.calls):
            say(f"waiting: {depth:,} calls …")
            await self._at(depth)
        emptied = await self._emptied()
        yield Table("Waiting calls: speed", self._speeds, failures=self._failures)
        yield Table("Waiting calls: memory, disk, time of an answer", self._sizes)
        yield emptied

    async def _at(self, depth: int) -> None:
        peer = self._peer
        async with self._api.paused():
            if missing := max(0, depth - await peer.queue.waiting()):
                await fill(peer, post_request("/async-function/echo", peer.port, BODY), missing)
            waiting = await peer.queue.waiting()
            self._sizes.append(await self._size(waiting))
            accepted = await accept(peer, self._plan)
            for what, count in accepted.failures.items():
                self._failures[what] = self._failures.get(what, 0) + count
        ran = await run(peer, self._plan.seconds)
        self._speeds.append(
            {
                "waiting": waiting,
                "accepted per s": accepted.per_second,
                "p50 ms": accepted.p50_ms,
                "p99 ms": accepted.p99_ms,
                "gateway µs": accepted.us["gateway"],
                "nats-server µs": accepted.us["nats-server"],
                "elsewhere": accepted.elsewhere,
                "run per s": ran.per_second,
                "worker µs": ran.us["worker"],
                "nats-server µs of a run": ran.us["nats-server"],
                "elsewhere then": ran.elsewhere,
            }
        )
        say(str(self._speeds[-1]))

    async def _size(self, waiting: int) -> dict[str, Any]:
        """What the queue takes up as it rests, and how long it takes to look at it."""
        call_id = await self._api.call("echo", BODY.encode())
        found = {
            "waiting": waiting,
            **memory(self._peer.parts),
            "disk MB": _disk_mb(self._data),
            "queues ms": await self._api.ms("/system/queues", LOOKS),
            "metrics ms": await self._api.ms("/metrics", LOOKS, metrics=True),
            "record ms": await self._api.ms(f"/async-function/{call_id}", LOOKS),
            "list of calls ms": await self._api.ms("/system/calls?limit=100", LOOKS),
        }
        say(str(found))
        return found

    async def _emptied(self) -> Table:
        """Run all that waits; a call of another function came last."""
        peer, waiting = self._peer, await self._peer.queue.waiting()
        call_id, began = await self._api.call("clock", b""), time.monotonic()
        limit_s = patience_s(waiting)
        await peer.queue.drain(peer.parts, limit_s)
        took = time.monotonic() - began
        row = {
            "waiting": waiting,
            "run per s": waiting / took,
            "last call began after s": await self._api.waited_s(call_id, limit_s),
            **memory(peer.parts),
            "disk MB": _disk_mb(self._data),
        }
        say(str(row))
        return Table("Waiting calls: all of them run, one of another function behind them", [row])


async def _overtaken(plan: Plan, peer: Peer, asked: Api) -> Table:
    """Slow calls come while the worker runs; what waits then does not delay another function."""
    rows = []
    for depth in (0, plan.calls // 10, plan.calls):
        say(f"overtaken: {depth:,} calls …")
        if missing := max(0, depth - await peer.queue.waiting()):
            request = post_request("/async-function/nap", peer.port, f"{plan.nap_s:g}")
            await fill(peer, request, missing)
        waiting = await peer.queue.waiting()
        first = await asked.waited_s(await asked.call("clock", b""), patience_s(waiting))
        waits = sorted([await asked.waited_s(await asked.call("clock", b""), 60) for _ in range(OTHERS)])
        rows.append(
            {
                "waiting": waiting,
                "first began after ms": first * 1e3,
                "p50 ms": waits[len(waits) // 2] * 1e3,
                "max ms": waits[-1] * 1e3,
                **memory(peer.parts),
            }
        )
        say(str(rows[-1]))
    await peer.queue.purge()
    title = f"Waiting calls of {plan.nap_s:g} s, accepted while the worker runs: a call of another function"
    return Table(title, rows, [f"{OTHERS} calls one after the other, and one before them, of the queue {QUEUE}."])


def _disk_mb(folder: Path) -> float:
    """What the files in a folder take up on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / 1e6
