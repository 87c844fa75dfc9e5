"""A function on a raw socket that answers as badly as it likes, with the provider's answer in front."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

Answering = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Evil:
    """Get it from `evil()`. The path of a call, `/<name>`, says which of `answers` it gets."""

    def __init__(self, answers: dict[str, Answering]) -> None:
        self.url = ""
        self.answers = answers
        self.calls: list[str] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await self._take(await reader.readuntil(b"\r\n\r\n"), writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _take(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        target = head.split(b" ")[1].decode()
        if target.startswith("/system/function/"):
            body = json.dumps({"name": "evil", "endpoints": [self.url]}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
            await writer.drain()
            return
        name = target.removeprefix("/")
        self.calls.append(name)
        await self.answers[name](writer)

    def cut(self) -> None:
        for task in self._connections:
            task.cancel()


def says(data: bytes) -> Answering:
    """These bytes, and then the end of the connection."""

    async def answering(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return answering


def endless(head: bytes, piece: bytes, *, pause_s: float = 0.0) -> Answering:
    """A beginning, and the same piece until the other side has had enough."""

    async def answering(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.transport.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return answering


@contextlib.asynccontextmanager
async def evil(answers: dict[str, Answering]) -> AsyncIterator[Evil]:
    """Listens on a free port while the context lasts."""
    made = Evil(answers)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        made.cut()
