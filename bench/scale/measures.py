"""Measurements that several scenarios make: accepting, calling, running what waits."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from bench.child import BenchError
from bench.load import LoadSpec, post_request
from bench.meter import Parts, cpu_seconds, elsewhere, memory_mb, spent, us_each
from bench.peer import Peer
from bench.scale.plan import SLOTS, Plan
from bench.scenarios import BODY

LEAST_RATE = 1_000
"""Calls in a second; a machine that accepts or runs fewer is given up."""
PARTS = ("nats-server", "gateway", "worker", "provider")


@dataclass(frozen=True, slots=True)
class Load:
    """What one load gave."""

    per_second: float
    p50_ms: float
    p99_ms: float
    us: dict[str, float]
    """CPU µs for each request, by part."""
    elsewhere: str
    """The share of the machine's CPU time that went to other programs."""
    answered: int
    failures: dict[str, int]

    @classmethod
    def of(cls, result: dict[str, Any], expected: str) -> Load:
        """Read the load generator's result. Raises BenchError when nothing was answered."""
        requests, times = result["requests"], result["latency_ms"]
        if not requests:
            raise BenchError(f"nothing was answered: {result['failures']}")
        others = {f"status {status}": count for status, count in result["all_statuses"].items() if status != expected}
        return cls(
            requests / result["seconds"],
            times["p50"],
            times["p99"],
            us_each(result["cpu_s"], requests),
            f"{elsewhere(result['cpu_s'], result['seconds']):.0%}",
            result["all_statuses"].get(expected, 0),
            result["failures"] | others,
        )


async def accept(peer: Peer, plan: Plan, *, functions: tuple[str, ...] = ("echo",), connections: int = SLOTS) -> Load:
    """POST /async-function/… as fast as it is answered; the queue is to be paused."""
    requests = [post_request(f"/async-function/{name}", peer.port, BODY) for name in functions]
    return await _load(peer, plan, requests, connections, "202")


async def call(peer: Peer, plan: Plan, *, functions: tuple[str, ...] = ("echo",)) -> Load:
    """POST /function/… as fast as it is answered."""
    requests = [post_request(f"/function/{name}", peer.port, BODY) for name in functions]
    return await _load(peer, plan, requests, SLOTS, "200")


async def _load(peer: Peer, plan: Plan, requests: list[str], connections: int, expected: str) -> Load:
    spec = LoadSpec(peer.port, requests, connections, plan.seconds, plan.warmup_s, peer.parts)
    return Load.of(await spec.run(), expected)


def patience_s(calls: int) -> float:
    """How long so many calls may take to be accepted, or run."""
    return 30 + calls / LEAST_RATE


async def fill(peer: Peer, request: str, calls: int) -> float:
    """Have about so many calls accepted, as fast as may be; calls per second."""
    spec = LoadSpec(peer.port, [request], SLOTS, patience_s(calls), 0.0, peer.parts, most=calls)
    result = await spec.run()
    filled = Load.of(result, "202")
    if filled.failures or result["requests"] < calls:
        raise BenchError(f"{filled.answered} of {calls} calls were accepted; {filled.failures}")
    return filled.per_second


@dataclass(frozen=True, slots=True)
class Run:
    """Calls that were run within a window."""

    per_second: float
    us: dict[str, float]
    elsewhere: str


async def run(peer: Peer, seconds: float) -> Run:
    """Let the worker run what waits, for so long or until nothing does; to be let go just before."""
    before, waiting, began = cpu_seconds(peer.parts), await peer.queue.waiting(), time.perf_counter()
    looks = await peer.queue.watch(peer.parts, seconds)
    ran, took = waiting - looks[-1][1], looks[-1][0] - began
    if ran <= 0:
        raise BenchError(f"of {waiting} waiting calls none was run within {seconds:g} s")
    used = spent(before, cpu_seconds(peer.parts))
    return Run(ran / took, us_each(used, ran), f"{elsewhere(used, took):.0%}")


def memory(parts: Parts) -> dict[str, float]:
    """MB of each part that is there, in the order of the columns."""
    sizes = memory_mb({part: parts[part] for part in PARTS})
    return {f"{part} MB": size for part, size in sizes.items()}
