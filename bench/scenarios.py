"""What is measured. Each scenario takes a running peer and gives rows; none judges a figure.

    accept     POST /async-function/echo, answered 202: workers held still, so that nothing runs meanwhile
    run        calls accepted while the worker is held still, then let go: until the queue is empty
    callback   the same, each call with X-Callback-Url
    whole      64 calls under way at once, each from its POST to its callback, everything at work at the same time
    sync       POST /function/echo, and the same to the function's own port
    idle       one call at a time, with a rest between: from its POST to the function's first line, and to the callback

Request bodies have 256 bytes. CPU time is that of each part within the measured window, divided by the requests in it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from bench.child import BenchError
from bench.figures import Latency
from bench.load import LoadSpec, post_request
from bench.meter import cpu_seconds, elsewhere, spent, us_each
from bench.peer import Peer
from bench.processes import stopped
from bench.receiver import Receiver
from bench.roundtrip import RoundtripSpec

Name = Literal["accept", "run", "callback", "whole", "sync", "idle"]
NAMES: tuple[Name, ...] = get_args(Name)

WITHOUT_FSYNC_ONLY: frozenset[Name] = frozenset(("run", "callback", "whole", "sync"))
"""Measured with durability `os` only: what `disk` adds is seen in accept and idle."""

BODY = "x" * 256
SLOTS = 64
IDLE_PAUSE_S = 0.005
DRAIN_TIMEOUT_S = 120
SETTLE_TIMEOUT_S = 40


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how much."""

    seconds: float = 3.0
    warmup_s: float = 0.7
    most_calls: int = 20_000
    """Calls that wait for the worker at most, in run and callback."""
    accept_connections: tuple[int, ...] = (1, 64, 256)
    sync_connections: tuple[int, ...] = (1, 64)


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement of one peer."""

    scenario: Name
    what: str
    """What the scenario was varied by, or which of its latencies this is."""
    durability: str
    peer: str
    requests: int
    seconds: float
    per_second: float
    latency_ms: Latency | None
    cpu_us: dict[str, float]
    """CPU µs per request, by part."""
    elsewhere: float
    """Share of the machine's CPU time that went to neither system nor load: a row with much of it says little."""
    failures: dict[str, int] = field(default_factory=dict)
    """What went wrong, and how often. Empty when every request had the answer that was expected."""
    again: int = 0
    """Callbacks beyond the first of a call: allowed, but worth knowing."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Scenarios:
    """The scenarios for one peer."""

    def __init__(self, peer: Peer, plan: Plan, receiver: Receiver) -> None:
        self._peer = peer
        self._plan = plan
        self._receiver = receiver
        self._runs = 0

    async def measure(self, name: Name) -> AsyncIterator[Row]:
        """The rows of one scenario, each as soon as it is there."""
        match name:
            case "accept":
                for connections in self._plan.accept_connections:
                    yield await self._accept(connections)
            case "run":
                yield await self._drain("run", callback=False)
            case "callback":
                yield await self._drain("callback", callback=True)
            case "whole":
                yield await self._whole()
            case "sync" if self._peer.synchronous:
                for connections in self._plan.sync_connections:
                    yield await self._sync(connections)
                if self._peer.echo_port is not None:
                    yield await self._past_the_gateway(self._peer.echo_port)
            case "idle":
                for row in await self._idle():
                    yield row

    async def _accept(self, connections: int) -> Row:
        with stopped(self._peer.workers):
            await self._peer.queue.workers_stopped()
            result = await self._load(self._async_request(), connections).run()
            stored = await self._peer.queue.waiting()
            accepted = result["all_statuses"].get("202", 0)
            if stored < accepted:
                raise BenchError(f"{self._peer.name} answered 202 for {accepted} calls and stored {stored} of them")
            await self._peer.queue.purge()
        await self._peer.queue.until_idle(SETTLE_TIMEOUT_S)
        return self._row("accept", _connections(connections), result, "202")

    async def _sync(self, connections: int) -> Row:
        request = post_request("/function/echo", self._peer.port, BODY)
        result = await self._load(request, connections).run()
        return self._row("sync", _connections(connections), result, "200")

    async def _past_the_gateway(self, port: int) -> Row:
        """The same calls to the function's own port: what there is to be had, and what the gateway takes of it."""
        connections = self._plan.sync_connections[-1]
        result = await self._load(post_request("/", port, BODY), connections, port=port).run()
        return self._row("sync", f"{_connections(connections)}, the function's own port", result, "200")

    async def _drain(self, name: Name, *, callback: bool) -> Row:
        peer, receiver = self._peer, self._receiver
        self._runs += 1
        path = f"/{peer.name.replace(' ', '-')}/{peer.durability}/{self._runs}"
        headers = {"X-Callback-Url": receiver.url(path)} if callback else {}
        parts = {**peer.parts, "load": [receiver.pid]}
        with stopped(peer.workers):
            await peer.queue.workers_stopped()
            load = self._load(self._async_request(**headers), SLOTS, most=self._plan.most_calls)
            filled = await load.run()
            calls = await peer.queue.waiting()
            if calls < filled["all_statuses"].get("202", 0) or not calls:
                raise BenchError(f"{peer.name} accepted {filled['all_statuses']} and stored {calls} calls")
            await receiver.expect(path, calls)
            before, started = cpu_seconds(parts), time.perf_counter()
        looks = await peer.queue.drain(parts, DRAIN_TIMEOUT_S)
        used, measured_s = spent(before, cpu_seconds(parts)), time.perf_counter() - started
        done = await receiver.collect(SETTLE_TIMEOUT_S if callback else 0)
        failures = {"called back too few": calls - done["calls"]} if callback and done["calls"] != calls else {}
        await peer.queue.until_idle(SETTLE_TIMEOUT_S)
        seconds = looks[-1][0] - looks[0][0]
        return Row(
            scenario=name,
            what=f"{SLOTS} at once",
            durability=peer.durability,
            peer=peer.name,
            requests=calls,
            seconds=seconds,
            per_second=(done["per_second"] if callback else _drain_rate(looks)) or calls / seconds,
            latency_ms=None,
            cpu_us=us_each(used, calls),
            elsewhere=round(elsewhere(used, measured_s), 3),
            failures=failures,
            again=done["again"],
        )

    async def _whole(self) -> Row:
        result = await self._roundtrip("echo", slots=SLOTS, pause_s=0, timed=False).run()
        await self._peer.queue.until_idle(SETTLE_TIMEOUT_S)
        return self._row("whole", f"{SLOTS} calls, to the callback", {**result, "latency_ms": result["to_callback_ms"]})

    async def _idle(self) -> list[Row]:
        result = await self._roundtrip("clock", slots=1, pause_s=IDLE_PAUSE_S, timed=True).run()
        steps = {"to the 202": "accepted", "to the function's start": "started", "to the callback": "callback"}
        return [
            self._row("idle", what, {**result, "latency_ms": result[f"to_{step}_ms"]}) for what, step in steps.items()
        ]

    def _async_request(self, **headers: str) -> str:
        return post_request("/async-function/echo", self._peer.port, BODY, headers)

    def _load(self, request: str, connections: int, most: int = 0, port: int | None = None) -> LoadSpec:
        return LoadSpec(
            port=port or self._peer.port,
            requests=[request],
            connections=connections,
            seconds=self._plan.seconds,
            warmup_s=0 if most else self._plan.warmup_s,
            parts=self._peer.parts,
            most=most,
        )

    def _roundtrip(self, function: str, *, slots: int, pause_s: float, timed: bool) -> RoundtripSpec:
        return RoundtripSpec(
            port=self._peer.port,
            target=f"/async-function/{function}",
            body=BODY,
            slots=slots,
            seconds=self._plan.seconds,
            warmup_s=self._plan.warmup_s,
            pause_s=pause_s,
            timed_by_function=timed,
            parts=self._peer.parts,
        )

    def _row(self, scenario: Name, what: str, result: dict[str, Any], expected: str = "") -> Row:
        requests = result["requests"]
        if not requests:
            raise BenchError(f"{self._peer.name} answered nothing in {scenario}: {result['failures']}")
        others = {
            f"status {status}": count for status, count in result.get("statuses", {}).items() if status != expected
        }
        return Row(
            scenario=scenario,
            what=what,
            durability=self._peer.durability,
            peer=self._peer.name,
            requests=requests,
            seconds=result["seconds"],
            per_second=requests / result["seconds"],
            latency_ms=result["latency_ms"],
            cpu_us=us_each(result["cpu_s"], requests),
            elsewhere=round(elsewhere(result["cpu_s"], result["seconds"]), 3),
            failures=result["failures"] | others,
            again=result.get("again", 0),
        )


def _connections(number: int) -> str:
    return "1 connection" if number == 1 else f"{number} connections"


def _drain_rate(looks: list[tuple[float, int]]) -> float:
    """Calls per second between 5 % and 95 % of the queue; 0 when it went too fast to be seen in steps."""
    most = looks[0][1]
    inner = [(at, waiting) for at, waiting in looks if 0.05 * most <= waiting <= 0.95 * most]
    if len(inner) < 5:
        return 0.0
    (first_at, first), (last_at, last) = inner[0], inner[-1]
    return (first - last) / (last_at - first_at)
