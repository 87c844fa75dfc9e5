"""The load generator: N connections, each sending its next request as soon as the last one is answered.

    python -m bench.load            one LoadSpec as JSON on standard input, the result on standard output

A closed loop: throughput and latency are two views of one thing (connections = throughput times mean latency). The
requests are made once and sent as they are; of an answer only the status and the end are looked at. Measured against a
server that costs nothing, with 64 connections: 6 µs of CPU per request, half of it the kernel's, so that on two cores
the load is not what is measured.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any, Self, cast

from bench.child import ask_once, serve_lines
from bench.figures import latency
from bench.framing import Framing
from bench.meter import cpu_seconds, spent

ANSWER_TIMEOUT_S = 30
"""Longest wait for the answers that are outstanding when the measurement ends."""
PICKS = 50_000
"""Random choices, made beforehand and gone through in turn."""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What to send, how long, and whose CPU time to read at both ends of the measured window."""

    port: int
    requests: list[str]
    """Each time one of them at random, decoded as Latin-1."""
    connections: int
    seconds: float
    warmup_s: float
    parts: dict[str, list[int]]
    """Process ids by part."""
    most: int = 0
    """End the window early after so many requests; 0: no limit."""

    async def run(self) -> dict[str, Any]:
        """Send this load from a process of its own; the result as `Load.result` makes it."""
        return await ask_once("bench.load", asdict(self), timeout_s=self.warmup_s + self.seconds + ANSWER_TIMEOUT_S + 5)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        return cls(**fields)


def post_request(target: str, port: int, body: str, headers: dict[str, str] | None = None) -> str:
    """A request for LoadSpec."""
    lines = {"Host": f"127.0.0.1:{port}", "Content-Type": "text/plain", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in (lines | (headers or {})).items())
    return f"POST {target} HTTP/1.1\r\n{head}\r\n{body}"


class Load:
    """One run: what its connections share."""

    def __init__(self, spec: LoadSpec) -> None:
        self.spec = spec
        requests = [request.encode("latin-1") for request in spec.requests]
        picked = requests if len(requests) == 1 else random.Random(1).choices(requests, k=PICKS)
        self.next_request = cycle(picked).__next__
        self.framing = Framing()
        self.sending = True
        self.latencies: list[float] = []
        self.statuses: dict[bytes, int] = defaultdict(int)
        self.all_statuses: dict[bytes, int] = defaultdict(int)
        self.failures: dict[str, int] = defaultdict(int)
        self.full = asyncio.Event()
        self.most = spec.most or 2**60

    async def run(self) -> dict[str, Any]:
        """Warm up, measure, wait for the outstanding answers."""
        async with asyncio.TaskGroup() as group:
            connections = [group.create_task(self._keep_one_connection()) for _ in range(self.spec.connections)]
            await asyncio.sleep(self.spec.warmup_s)
            cpu, own, started = cpu_seconds(self.spec.parts), time.process_time(), time.perf_counter()
            self._begin()
            try:
                async with asyncio.timeout(self.spec.seconds):
                    await self.full.wait()
            except TimeoutError:
                pass
            seconds = time.perf_counter() - started
            latencies, statuses = self.latencies, self._end()
            used = spent(cpu, cpu_seconds(self.spec.parts)) | {"load": time.process_time() - own}
            _, late = await asyncio.wait(connections, timeout=ANSWER_TIMEOUT_S)
            for task in late:
                self.failures[f"no answer within {ANSWER_TIMEOUT_S} s"] += 1
                task.cancel()
        return {
            "seconds": seconds,
            "requests": len(latencies),
            "statuses": {status.decode(): count for status, count in statuses.items()},
            "all_statuses": {status.decode(): count for status, count in self.all_statuses.items()},
            "failures": dict(self.failures),
            "latency_ms": latency(latencies),
            "cpu_s": used,
        }

    def _begin(self) -> None:
        self._add_up()
        self.latencies.clear()

    def _end(self) -> dict[bytes, int]:
        self.sending = False
        measured = dict(self.statuses)
        self.latencies = []  # what is answered from now on counts in all_statuses only
        self._add_up()
        self.statuses = self.all_statuses
        return measured

    def _add_up(self) -> None:
        for status, count in self.statuses.items():
            self.all_statuses[status] += count
        self.statuses.clear()

    async def _keep_one_connection(self) -> None:
        """Connect, and again whenever the server hangs up while the load lasts."""
        loop = asyncio.get_running_loop()
        while self.sending:
            ended: asyncio.Future[str] = loop.create_future()
            try:
                transport, _ = await loop.create_connection(
                    lambda ended=ended: _Connection(self, ended),  # type: ignore[misc]
                    "127.0.0.1",
                    self.spec.port,
                )
            except OSError as error:
                self.failures[f"no connection: {error}"] += 1
                return  # a server that takes no connections is not going to be measured: no point in insisting
            try:
                if failure := await ended:
                    self.failures[failure] += 1
            finally:
                transport.abort()


class _Connection(asyncio.Protocol):
    """One request after the other. HOT."""

    __slots__ = ("_ended", "_load", "_rest", "_sent_at", "_transport")

    def __init__(self, load: Load, ended: asyncio.Future[str]) -> None:
        self._load = load
        self._ended = ended
        self._rest = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._sent_at = time.perf_counter()
        self._transport.write(self._load.next_request())

    def data_received(self, data: bytes) -> None:
        load = self._load
        if self._rest:
            data = self._rest + data
        size = load.framing.size(data)
        if size != len(data):
            if size:
                self._end(f"{len(data) - size} bytes after the end of an answer")
            self._rest = data
            return
        self._rest = b""
        now = time.perf_counter()
        load.latencies.append(now - self._sent_at)
        load.statuses[data[9:12]] += 1
        if not load.sending:
            self._end("")
            return
        if len(load.latencies) >= load.most:
            load.full.set()
        self._sent_at = now
        self._transport.write(load.next_request())

    def connection_lost(self, exc: Exception | None) -> None:
        # A close after an answer and before the next request can happen to any client; it is still no good answer.
        self._end(f"connection lost: {exc}" if exc else "connection closed by the server")

    def _end(self, failure: str) -> None:
        if not self._ended.done():
            self._ended.set_result(failure)


if __name__ == "__main__":

    async def _answer(fields: dict[str, Any]) -> dict[str, Any]:
        return await Load(LoadSpec.of(fields)).run()

    serve_lines(_answer)
