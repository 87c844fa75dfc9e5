"""A function on a raw socket, with a provider's answer in front: what arrives, byte for byte, and any answer at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class RawFunction:
    """Get it from `raw_function()`. It is the provider of every name, and each of these functions."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[bytes] = []
        """The calls, head and body as received."""
        self.answer: Callable[[int], bytes] = lambda _number: ANSWER
        """The bytes that answer the call of this number, from 1; the connection is closed after them."""
        self.hang: asyncio.Event | None = None
        """When set: after the bytes of an answer the connection stays open until this happens."""
        self._arrived = asyncio.Condition()

    async def wait_for(self, count: int) -> list[bytes]:
        """Return once so many calls have come."""
        async with asyncio.timeout(30), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /system/info"):
                answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            elif head.startswith(b"GET /system/function/"):
                body = json.dumps({"name": "raw", "endpoints": [self.url]}).encode()
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
            else:
                length = next(
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                )
                body = await reader.readexactly(length)
                async with self._arrived:
                    self.requests.append(head + body)
                    self._arrived.notify_all()
                answer = self.answer(len(self.requests))
            writer.write(answer)
            await writer.drain()
            if self.hang is not None and not head.startswith(b"GET /system/"):
                await self.hang.wait()
        writer.close()


@contextlib.asynccontextmanager
async def raw_function() -> AsyncIterator[RawFunction]:
    """Listens on a free port while the context lasts."""
    made = RawFunction()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
