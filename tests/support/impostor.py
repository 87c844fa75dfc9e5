"""A program that listens where a function did, and answers 200 to everything."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

WORDS = b"I am not your function"
WITHIN_S = 10.0


class Impostor:
    """Get it from `impostor()`."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        """The heads of what it was sent."""
        self._asked = asyncio.Event()

    async def asked(self) -> None:
        """Return once somebody has fallen for it."""
        async with asyncio.timeout(WITHIN_S):
            await self._asked.wait()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                self.requests.append(head)
                self._asked.set()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(WORDS), WORDS))
        writer.close()


@contextlib.asynccontextmanager
async def impostor(port: int) -> AsyncIterator[Impostor]:
    """Takes the port as soon as whoever had it has gone."""
    made = Impostor()
    server: asyncio.Server | None = None
    async with asyncio.timeout(WITHIN_S):
        while server is None:
            try:
                server = await asyncio.start_server(made.answer, "127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.001)
    async with server:
        yield made
