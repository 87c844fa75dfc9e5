"""Connections that are open and rest: each has made one request and makes no other.

python -m bench.scale.idlers     questions as lines of JSON on standard input: see `Idlers`
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from bench.child import Child, child, serve_lines
from bench.framing import Framing
from holdfast.sockets import allow_many

AT_ONCE = 256
"""Connections that are being opened at a time."""
OPEN_TIMEOUT_S = 120


class _Connection(asyncio.Protocol):
    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._rest = b""
        self._answered: asyncio.Future[bytes] | None = None
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.open = False
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(b"closed")

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if self._framing.size(self._rest) and self._answered is not None and not self._answered.done():
            self._answered.set_result(self._rest[9:12])

    async def ask(self, request: bytes) -> bytes:
        """Send a request; gives the status of its answer."""
        if not self.open:
            return b"closed"
        self._rest = b""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answered


class _Connections:
    """The child's side: all of them."""

    def __init__(self) -> None:
        self._open: list[_Connection] = []
        self._framing = Framing()

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        request = question["request"].encode("latin-1")
        if "open" in question:
            allow_many()
            loop, left, port = asyncio.get_running_loop(), iter(range(question["open"])), question["port"]

            async def keep_opening() -> None:
                for _ in left:
                    made = await loop.create_connection(lambda: _Connection(self._framing), "127.0.0.1", port)
                    self._open.append(made[1])

            await asyncio.gather(*(keep_opening() for _ in range(AT_ONCE)))
        statuses = [await connection.ask(request) for connection in self._open]
        return {status.decode(): statuses.count(status) for status in set(statuses)}


class Idlers:
    """The parent's side."""

    def __init__(self, asked: Child) -> None:
        self._child = asked

    async def open(self, port: int, connections: int, request: str) -> dict[str, int]:
        """Open so many; how often which status was answered."""
        return await self._child.ask({"open": connections, "port": port, "request": request}, timeout_s=OPEN_TIMEOUT_S)

    async def ask(self, request: str) -> dict[str, int]:
        """One more request on each; how often which status was answered."""
        return await self._child.ask({"request": request}, timeout_s=OPEN_TIMEOUT_S)


@contextlib.asynccontextmanager
async def idlers() -> AsyncIterator[Idlers]:
    """Start them in a process of their own, which closes them on leaving."""
    async with child("bench.scale.idlers") as asked:
        yield Idlers(asked)


if __name__ == "__main__":
    serve_lines(_Connections().answer)
