"""A callback receiver on a raw socket: what it was sent, exactly, and an answer that a test chooses."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Callback:
    """One request as received."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    at: float
    """time.monotonic() when it was complete."""

    def __getitem__(self, name: str) -> str:
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) == 1, f"{name} should be there once: {self.headers}"
        return values[0]

    def __contains__(self, name: str) -> bool:
        return any(key.lower() == name.lower() for key, _ in self.headers)


class Receiver:
    """Get it from `receiver()`."""

    def __init__(self) -> None:
        self.callbacks: list[Callback] = []
        self.url = ""
        self.answer = 200
        """Status of the answers from now on; 0: never answer."""
        self.answers = asyncio.Event()
        """Cleared, what comes is kept waiting; set again, it gets the answer that is chosen then."""
        self.answers.set()
        self._arrived = asyncio.Condition()
        self._confirmed: Counter[str] = Counter()
        self._connections: set[asyncio.Task[None]] = set()

    def confirmed(self) -> Counter[str]:
        """How often each call id was called back and answered 2xx."""
        return self._confirmed

    async def wait_for(self, count: int, timeout_s: float = 30) -> list[Callback]:
        """Return once `count` callbacks have come."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: len(self.callbacks) >= count)
        return self.callbacks

    async def wait_for_ids(self, ids: set[str], timeout_s: float = 60) -> None:
        """Return once every one of the call ids was called back and answered 2xx."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: ids <= self._confirmed.keys())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    await self._take(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head[:-4].split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (field.partition(":") for field in rest)]
        length = int(next(value for name, value in headers if name.lower() == "content-length"))
        body = await reader.readexactly(length)
        callback = Callback(line, headers, body, time.monotonic())
        async with self._arrived:
            self.callbacks.append(callback)
            self._arrived.notify_all()
        await self.answers.wait()
        answer = self.answer
        async with self._arrived:
            if 200 <= answer < 300 and "X-Call-Id" in callback:
                self._confirmed[callback["X-Call-Id"]] += 1
            self._arrived.notify_all()
        if answer:
            writer.write(f"HTTP/1.1 {answer} Whatever\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        else:
            await reader.read()

    def cut(self) -> None:
        for task in self._connections:
            task.cancel()


@contextlib.asynccontextmanager
async def receiver(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver that listens while the context lasts; on a free port unless one is given."""
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", port, backlog=1024)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        made.cut()
