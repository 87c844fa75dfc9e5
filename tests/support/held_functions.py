"""Functions that hold each call until a test lets it go, with a provider in front: who runs, and how many at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

Answer = tuple[int, dict[str, str]]


class HeldFunction:
    """One function. Its name is whatever the provider was asked for first under its port."""

    def __init__(self, name: str, annotations: dict[str, str]) -> None:
        self.name = name
        self.annotations = annotations
        self.url = ""
        self.begun: list[str] = []
        """Bodies of the calls that have come, in order."""
        self.running = 0
        self.most = 0
        """Calls that were running at once, at most."""
        self.open = False
        """Whether calls are answered without being let go."""
        self.takes_s = 0.0
        """How long a good answer takes then."""
        self.answer: Callable[[int], Answer] = lambda _running: (200, {})
        """Status and headers for a call that begins as the n-th of those running."""
        self._held: list[asyncio.Event] = []
        self._changed = asyncio.Condition()

    async def wait_for(self, count: int, timeout_s: float = 60) -> None:
        """Return once so many calls have begun."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(self.begun) >= count)

    def let_go(self, count: int | None = None) -> None:
        """Answer so many of the calls that are held, the oldest first; all of them, and all that come, without one."""
        if count is None:
            self.open = True
        for event in self._held[:count]:
            event.set()
        del self._held[:count]

    async def run(self, body: bytes) -> Answer:
        self.running += 1
        self.most = max(self.most, self.running)
        answer = self.answer(self.running)
        try:
            async with self._changed:
                self.begun.append(body.decode())
                self._changed.notify_all()
            if answer[0] == 200 and self.open:
                await asyncio.sleep(self.takes_s)
            elif answer[0] == 200:
                event = asyncio.Event()
                self._held.append(event)
                await event.wait()
        finally:
            self.running -= 1
        return answer


class HeldFunctions:
    """The provider. Get it from `held_functions()`."""

    def __init__(self) -> None:
        self.url = ""
        self.by_name: dict[str, HeldFunction] = {}

    def __getitem__(self, name: str) -> HeldFunction:
        return self.by_name[name]

    async def serve(
        self, function: HeldFunction | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
                body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
                status, headers, answer = (
                    self._describe(head) if function is None else (*await function.run(body), b"ok")
                )
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(answer)}\r\n\r\n".encode() + answer)
                await writer.drain()
        writer.close()

    def _describe(self, head: bytes) -> tuple[int, dict[str, str], bytes]:
        path = head.split(b" ")[1].split(b"?")[0].decode()
        function = self.by_name.get(path.removeprefix("/system/function/"))
        if function is None:
            return 404, {}, b"no such function"
        status = {"name": function.name, "endpoints": [function.url], "annotations": function.annotations}
        return 200, {}, json.dumps(status).encode()


@contextlib.asynccontextmanager
async def held_functions(**annotations: dict[str, str]) -> AsyncIterator[HeldFunctions]:
    """A function for each keyword, with these annotations, on free ports while the context lasts."""
    made = HeldFunctions()
    async with contextlib.AsyncExitStack() as stack:

        async def listen(function: HeldFunction | None) -> str:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await made.serve(function, reader, writer)

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            stack.callback(server.close)
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        for name, values in annotations.items():
            function = made.by_name[name] = HeldFunction(name, values)
            function.url = await listen(function)
        made.url = await listen(None)
        yield made
