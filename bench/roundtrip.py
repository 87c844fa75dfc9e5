"""Calls from the POST to the callback: each of a number of slots makes a call, waits for its callback, makes the next.

    python -m bench.roundtrip       one RoundtripSpec as JSON on standard input, the result on standard output

Sends and receives in one process, so that both ends of a call are on one clock and a callback starts the next call. The
time at which the function started is what the function `clock` returns (unix time in ns), so it is the callback's body.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Self, cast

from bench.child import BenchError, ask_once, serve_lines
from bench.figures import latency
from bench.framing import Framing
from bench.meter import cpu_seconds, spent
from bench.receiver import call_id, callback_server

CALL_TIMEOUT_S = 15
"""Longest wait for one call's answer and callback. A lost one ends the measurement with an error."""


@dataclass(frozen=True, slots=True)
class RoundtripSpec:
    """What to call, how many calls are under way at once, how long."""

    port: int
    target: str
    body: str
    slots: int
    seconds: float
    warmup_s: float
    pause_s: float
    """Rest of a slot between a callback and its next call, so that a system that is meant to be idle is."""
    timed_by_function: bool
    """Whether the function answers with the time it started at."""
    parts: dict[str, list[int]]

    async def run(self) -> dict[str, Any]:
        return await ask_once(
            "bench.roundtrip", asdict(self), timeout_s=self.warmup_s + self.seconds + CALL_TIMEOUT_S + 5
        )

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        return cls(**fields)


@dataclass(slots=True)
class _Times:
    """Seconds from sending a call to each step of it."""

    accepted: list[float] = field(default_factory=list)
    started: list[float] = field(default_factory=list)
    called_back: list[float] = field(default_factory=list)


class Roundtrips:
    """One run."""

    def __init__(self, spec: RoundtripSpec) -> None:
        self.spec = spec
        self.times = _Times()
        self.failures = 0
        self.again = 0
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        """By the path that its callback comes to: each slot has its own, and one call at a time."""
        self._ended: dict[bytes, bytes] = {}
        """The `X-Call-Id` of the last call of each path that was called back."""

    async def run(self) -> dict[str, Any]:
        """Warm up, measure, let the calls under way finish."""
        async with callback_server(self._called_back) as port, asyncio.TaskGroup() as group:
            stop = asyncio.Event()
            for slot in range(self.spec.slots):
                group.create_task(self._call_again_and_again(slot, port, stop))
            await asyncio.sleep(self.spec.warmup_s)
            self.times, cpu, own = _Times(), cpu_seconds(self.spec.parts), time.process_time()
            started = time.perf_counter()
            await asyncio.sleep(self.spec.seconds)
            times, seconds = self.times, time.perf_counter() - started
            used = spent(cpu, cpu_seconds(self.spec.parts)) | {"load": time.process_time() - own}
            self.times = _Times()
            stop.set()
        return {
            "seconds": seconds,
            "requests": len(times.called_back),
            "failures": {"not accepted": self.failures} if self.failures else {},
            "again": self.again,
            "to_accepted_ms": latency(times.accepted),
            "to_started_ms": latency(times.started),
            "to_callback_ms": latency(times.called_back),
            "cpu_s": used,
        }

    def _called_back(self, request: bytes) -> None:
        path, call = request[5 : request.index(b" ", 5)], call_id(request)
        waiting = self._waiting.get(path)
        if waiting is None or waiting.done() or self._ended.get(path) == call:
            self.again += 1
        else:
            self._ended[path] = call
            waiting.set_result(request)

    async def _call_again_and_again(self, slot: int, receiver_port: int, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        spec = self.spec
        path = f"/slot/{slot}"
        # Without an X-Call-Id, as most calls come.
        request = (
            f"POST {spec.target} HTTP/1.1\r\nHost: 127.0.0.1:{spec.port}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(spec.body)}\r\n"
            f"X-Callback-Url: http://127.0.0.1:{receiver_port}{path}\r\n\r\n{spec.body}"
        ).encode()
        transport, connection = await loop.create_connection(_Calls, "127.0.0.1", spec.port)
        try:
            while not stop.is_set():
                try:
                    async with asyncio.timeout(CALL_TIMEOUT_S):
                        await self._one_call(path.encode(), request, connection)
                except TimeoutError:
                    raise BenchError(f"a call of {path} did not call back within {CALL_TIMEOUT_S} s") from None
                if spec.pause_s:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(spec.pause_s):
                            await stop.wait()
        finally:
            transport.abort()

    async def _one_call(self, path: bytes, request: bytes, connection: _Calls) -> None:
        loop = asyncio.get_running_loop()
        callback = self._waiting[path] = loop.create_future()
        sent_ns, sent = time.time_ns(), time.perf_counter()
        status = await connection.send(request)
        times = self.times
        if status != b"202":
            self.failures += 1
            del self._waiting[path]
            return
        times.accepted.append(time.perf_counter() - sent)
        request = await callback
        times.called_back.append(time.perf_counter() - sent)
        if self.spec.timed_by_function:
            times.started.append((int(request[request.index(b"\r\n\r\n") + 4 :]) - sent_ns) / 1e9)


class _Calls(asyncio.Protocol):
    """The connection of one slot: one request at a time."""

    def __init__(self) -> None:
        self._framing = Framing()
        self._rest = b""
        self._status: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes) -> asyncio.Future[bytes]:
        """The status of the answer. Raises ConnectionError when the server hangs up instead."""
        self._status = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._status

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if self._framing.size(self._rest) and self._status is not None and not self._status.done():
            status, self._rest = self._rest[9:12], b""
            self._status.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._status is not None and not self._status.done():
            self._status.set_exception(ConnectionError(f"the gateway closed the connection: {exc or 'no error'}"))


if __name__ == "__main__":

    async def _answer(fields: dict[str, Any]) -> dict[str, Any]:
        return await Roundtrips(RoundtripSpec.of(fields)).run()

    serve_lines(_answer)
