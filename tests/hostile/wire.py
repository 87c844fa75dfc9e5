"""One raw connection to a gateway, whose answers h11 reads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.hostile.readings import Answer, as_client

# What a test waits for comes within milliseconds; this is for a machine busy with others.
PATIENCE_S = 30.0


class Wire:
    """Get it from `wire()`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.received = b""
        """Everything that came."""
        self.ended = False
        """Whether the other side has ended."""

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def end(self) -> None:
        """Half-close: nothing more will be sent."""
        self._writer.write_eof()

    async def answers(self, count: int, methods: list[bytes]) -> list[Answer]:
        """Return once so many answers are there, interim ones included, or the other side has ended."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answers, _ = as_client(self.received, methods, ended=self.ended)
                if len(answers) >= count or self.ended:
                    return answers[:count]
                await self._read()

    async def until_closed(self) -> bytes:
        """Everything that came until the other side ended."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.ended:
                await self._read()
        return self.received

    async def _read(self) -> None:
        data = await self._reader.read(65536)
        self.ended = not data
        self.received += data


@contextlib.asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """A connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
