"""The function of the corpus: h11 as its server, writing down what it is sent; and the provider that knows it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator

import h11

from tests.hostile.readings import Asked, Headers

NAME = "mirror"


class Mirror:
    """Get it from `mirror()`."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: dict[bytes, list[Asked]] = {}
        """What came, by X-Call-Id."""
        self.faults: list[str] = []
        """What was sent here and is not HTTP as h11 reads it: the gateway's mistakes."""
        self._arrived = asyncio.Condition()
        self._connections: set[asyncio.Task[None]] = set()

    async def wait_for(self, call_id: bytes) -> Asked:
        """The call of this id, once it has come."""
        async with asyncio.timeout(30), self._arrived:
            await self._arrived.wait_for(lambda: call_id in self.calls)
        return self.calls[call_id][-1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                while await self._take(connection, reader, writer):
                    connection.start_next_cycle()
        except h11.RemoteProtocolError as fault:
            if not self._left_early(fault):
                self.faults.append(str(fault))
        finally:
            self._connections.discard(task)
            writer.close()

    @staticmethod
    def _left_early(fault: h11.RemoteProtocolError) -> bool:
        """Whether the request only ended early, as it does when the gateway's client leaves."""
        return "peer closed connection" in str(fault) or "peer unexpectedly closed" in str(fault)

    async def _take(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        request: h11.Request | None = None
        body = b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                return False
        assert request is not None
        asked = Asked(request.method, request.target, list(request.headers.raw_items()), body)
        status, headers, content = await self._answer(asked)
        framing = [(b"Content-Length", b"%d" % len(content))]
        writer.write(connection.send(h11.Response(status_code=status, headers=headers + framing)) or b"")
        if asked.method != b"HEAD":
            writer.write(connection.send(h11.Data(data=content)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        return connection.our_state is h11.DONE

    async def _answer(self, asked: Asked) -> tuple[int, Headers, bytes]:
        if asked.target.startswith(b"/system/"):
            if not asked.target.startswith(f"/system/function/{NAME}?".encode()) or b"elsewhere" in asked.target:
                return 404, [], b"no such function"
            return 200, [], json.dumps({"name": NAME, "namespace": "openfaas-fn", "endpoints": [self.url]}).encode()
        call_id = next(value for name, value in asked.headers if name.lower() == b"x-call-id")
        async with self._arrived:
            self.calls.setdefault(call_id, []).append(asked)
            self._arrived.notify_all()
        return 200, [(b"X-Mirror", b"1")], fingerprint(asked.method, asked.target, asked.body)

    def cut(self) -> None:
        for task in self._connections:
            task.cancel()


def fingerprint(method: bytes, target: bytes, body: bytes) -> bytes:
    """What the mirror answers: nobody can take it for the answer to another request."""
    return hashlib.sha256(b"%b %b %b" % (method, target, body)).hexdigest().encode()


@contextlib.asynccontextmanager
async def mirror() -> AsyncIterator[Mirror]:
    """Listens on a free port while the context lasts."""
    made = Mirror()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        made.cut()
