"""The receiver of callbacks: answers 200 to every POST at once and keeps when each call's first one arrived.

    python -m bench.receiver        questions as lines of JSON on standard input: see `Receiver`

Costs 6 µs of CPU per callback, so that receiving does not limit what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from bench.child import START_TIMEOUT_S, Child, child, serve_lines
from bench.figures import steady_rate
from bench.framing import Framing

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class CallbackConnection(asyncio.Protocol):
    """One connection of a caller-back: hands each complete request to `received`, and answers it. HOT."""

    __slots__ = ("_framing", "_received", "_rest", "_transport")

    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received
        self._framing = Framing()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        while size := self._framing.size(data):
            self._received(data[:size])
            self._transport.write(_ANSWER)
            data = data[size:]
        self._rest = data


def call_id(request: bytes) -> bytes:
    """The value of `X-Call-Id`; b"" when there is none. Both spellings in use are tried, the usual one first."""
    at = request.find(b"\r\nX-Call-Id: ")
    if at < 0:
        at = request.find(b"\r\nx-call-id: ")
        if at < 0:
            return b""
    return request[at + 13 : request.index(b"\r", at + 13)]


@contextlib.asynccontextmanager
async def callback_server(received: Callable[[bytes], None]) -> AsyncIterator[int]:
    """Listen on a free port of the loopback interface; gives the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: CallbackConnection(received), "127.0.0.1", 0, backlog=1024)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Arrivals:
    """Counts the calls that called back to one path."""

    def __init__(self) -> None:
        self._prefix = b"POST /nowhere "
        self._expected = 0
        self._first: dict[bytes, float] = {}
        self._again = 0
        self._complete = asyncio.Event()

    def expect(self, path: str, calls: int) -> None:
        """Begin anew: only POSTs to `path` count from here on."""
        self._prefix = f"POST {path} ".encode()
        self._expected = calls
        self._first = {}
        self._again = 0
        self._complete.clear()

    def add(self, request: bytes) -> None:
        if not request.startswith(self._prefix):
            return
        call = call_id(request)
        if call in self._first:
            self._again += 1
            return
        self._first[call] = time.perf_counter()
        if len(self._first) == self._expected:
            self._complete.set()

    async def collect(self, timeout_s: float) -> dict[str, Any]:
        """Wait until all calls have called back, or for `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._complete.wait()
        return {
            "calls": len(self._first),
            "again": self._again,
            "per_second": steady_rate(list(self._first.values())),
        }


class Receiver:
    """The parent's side of a running receiver."""

    def __init__(self, asked: Child, port: int) -> None:
        self._child = asked
        self.port = port

    @property
    def pid(self) -> int:
        return self._child.pid

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def expect(self, path: str, calls: int) -> None:
        await self._child.ask({"expect": calls, "path": path}, timeout_s=START_TIMEOUT_S)

    async def collect(self, timeout_s: float) -> dict[str, Any]:
        """How many calls called back (`calls`), callbacks beyond the first of a call (`again`), `per_second`."""
        return await self._child.ask({"collect": timeout_s}, timeout_s=timeout_s + START_TIMEOUT_S)


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Start the receiver in a process of its own."""
    async with child("bench.receiver") as asked:
        yield Receiver(asked, (await asked.ask({}, timeout_s=START_TIMEOUT_S))["port"])


if __name__ == "__main__":
    _arrivals = Arrivals()
    _servers = contextlib.AsyncExitStack()

    async def _answer(question: dict[str, Any]) -> dict[str, Any]:
        if "expect" in question:
            _arrivals.expect(question["path"], question["expect"])
            return {}
        if "collect" in question:
            return await _arrivals.collect(question["collect"])
        return {"port": await _servers.enter_async_context(callback_server(_arrivals.add))}

    serve_lines(_answer)
