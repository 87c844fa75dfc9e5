"""A TCP proxy that cuts: at a chosen place in what passes through it, or altogether as a network does that is down.

It also holds: what one end sends is kept back from a chosen place on, as when the network or that end stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

Direction = Literal["there", "back"]
CHUNK = 64 * 1024


@dataclass
class Cut:
    """Where to cut: `keep` bytes behind the beginning of every `every`-th occurrence of a pattern, so many times."""

    direction: Direction
    pattern: bytes
    keep: int
    every: int = 1
    times: int = 1
    seen: int = 0
    made: int = 0


class CuttingProxy:
    """Get it from `cutting_proxy()`."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.cut: Cut | None = None
        self.hold: bytes | None = None
        """Keep back what is sent there from the first occurrence of this on, until `let_go`."""
        self._holding = asyncio.Event()
        self._let_go = asyncio.Event()
        self._target = (host, port)
        self._down = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def cut_made(self, timeout_s: float = 60) -> None:
        """Return once all cuts that were asked for are made."""
        async with asyncio.timeout(timeout_s):
            while self.cut is not None and self.cut.made < self.cut.times:
                self._changed.clear()
                await self._changed.wait()

    async def held(self, timeout_s: float = 60) -> None:
        """Return once something is kept back."""
        async with asyncio.timeout(timeout_s):
            await self._holding.wait()

    def let_go(self) -> None:
        """Pass on what was kept back, and hold nothing more."""
        self.hold = None
        self._let_go.set()

    def take_down(self) -> None:
        """Cut every connection, and each that is tried from now on."""
        self._down = True
        for writer in self._writers:
            writer.transport.abort()

    def heal(self) -> None:
        self._down = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._down:
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        both = (writer, there_writer)
        self._writers.update(both)
        try:
            # A server's connections are tasks of asyncio's own; at the end of the loop it would call each an error.
            with contextlib.suppress(asyncio.CancelledError):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._pass_on("there", reader, there_writer, both))
                    tasks.create_task(self._pass_on("back", there_reader, writer, both))
        finally:
            self._writers.difference_update(both)
            for one in both:
                one.close()

    async def _pass_on(
        self,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        tail = b""
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(CHUNK):
                if direction == "there" and self.hold is not None and self.hold in chunk:
                    self._holding.set()
                    await self._let_go.wait()
                length, tail = self._length(direction, tail, chunk)
                writer.write(chunk[:length])
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
                if length < len(chunk):
                    for one in both:
                        # What was written goes out first; then both ends see their connection end.
                        one.close()
                    self._changed.set()
                    return
        for one in both:
            one.close()

    def _length(self, direction: Direction, tail: bytes, chunk: bytes) -> tuple[int, bytes]:
        """How much of a chunk goes through, and what the next one needs to know of it."""
        cut = self.cut
        if cut is None or cut.direction != direction or cut.made >= cut.times:
            return len(chunk), b""
        text = tail + chunk
        at = text.find(cut.pattern)
        while at >= 0:
            cut.seen += 1
            if cut.seen % cut.every == 0:
                cut.made += 1
                # At least one byte is kept back, or nothing would be cut.
                return min(max(0, at + cut.keep - len(tail)), len(chunk) - 1), b""
            at = text.find(cut.pattern, at + len(cut.pattern))
        return len(chunk), text[-(len(cut.pattern) - 1) :]


@contextlib.asynccontextmanager
async def cutting_proxy(port: int, host: str = "127.0.0.1") -> AsyncIterator[CuttingProxy]:
    """A proxy in front of a port, on a free port of its own."""
    made = CuttingProxy(host, port)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, backlog=1024)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.take_down()
