"""Both ends of a connection as plain sockets, so that a test decides every byte that the other side sends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import httptools

from holdfast.http1.client import Origin
from holdfast.http1.server import BodyReader, Exchange

# What a test waits for comes within milliseconds; this is for a machine busy with others.
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Got:
    """An answer as a client reads it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def __getitem__(self, name: bytes) -> bytes:
        (value,) = [value for key, value in self.headers if key.lower() == name]
        return value

    def names(self) -> list[bytes]:
        return [key.lower() for key, _ in self.headers]


class Client:
    """A client that sends what it is told to. Get it from `client()`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._left = b""

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, data: bytes) -> Got:
        self.send(data)
        return await self.answer()

    async def answer(self, *, head_only: bool = False) -> Got:
        """The next answer, framed by its length, its chunks, or the end of the connection."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head[:-4].split(b"\r\n")
            headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:])]
            answer = Got(int(lines[0].split(b" ")[1]), headers, b"")
            if head_only or answer.status in {204, 304} or answer.status < 200:
                return answer
            return replace(answer, body=await self._body(answer))

    async def _body(self, answer: Got) -> bytes:
        if b"content-length" in answer.names():
            return await self.reader.readexactly(int(answer[b"content-length"]))
        if b"transfer-encoding" not in answer.names():
            return await self.reader.read()
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return body

    async def some(self) -> bytes:
        """The next bytes, whatever they are; empty at the end."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read(65536)

    async def end(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read()

    def leave(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Leave as a crashed machine does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def client(port: int, *, receive_buffer: int | None = None) -> AsyncIterator[Client]:
    """A connected client; `receive_buffer` keeps what the kernel takes for it small."""
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4 * 1024 if receive_buffer else 2**20)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class Script:
    """An application that does what a test says, and tells when things happened."""

    def __init__(self, begin: Callable[[Exchange], None]) -> None:
        self._begin = begin
        self.begun: asyncio.Queue[Exchange] = asyncio.Queue()
        self.gone: asyncio.Queue[Exchange] = asyncio.Queue()

    def begin(self, exchange: Exchange) -> None:
        exchange.on_gone(lambda: self.gone.put_nowait(exchange))
        self.begun.put_nowait(exchange)
        self._begin(exchange)

    async def next(self) -> Exchange:
        return await asyncio.wait_for(self.begun.get(), PATIENCE_S)

    async def next_gone(self) -> Exchange:
        return await asyncio.wait_for(self.gone.get(), PATIENCE_S)


def echo(limit: int = 1000) -> Script:
    """Answers with what it was sent."""
    return Script(lambda exchange: exchange.collect(limit, lambda ex, body: ex.respond(200, body=body)))


def silent() -> Script:
    """Leaves everything to the test."""
    return Script(lambda exchange: None)


class Reader(BodyReader):
    """Writes down what a streamed body tells."""

    def __init__(self) -> None:
        self.body = b""
        self.more = asyncio.Event()
        self.ended = asyncio.Event()
        self.lost = asyncio.Event()

    def body_data(self, data: bytes) -> None:
        assert data
        assert not self.ended.is_set()
        self.body += data
        self.more.set()

    def body_end(self) -> None:
        assert not self.lost.is_set()
        self.ended.set()

    def body_lost(self) -> None:
        assert not self.ended.is_set()
        self.lost.set()


async def happens(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE_S)


@dataclass(frozen=True)
class Asked:
    """A request as a server reads it."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def __getitem__(self, name: bytes) -> bytes:
        (value,) = [value for key, value in self.headers if key.lower() == name]
        return value


class Peer:
    """One accepted connection of a `peer()`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.number = 0
        """Which connection of this peer it is, from 1."""

    async def request(self) -> Asked:
        """The next request, whole. Raises EOFError when the client closed instead."""
        parser = _Request()
        while not parser.complete:
            data = await self.reader.read(65536)
            if not data:
                raise EOFError
            parser.feed(data)
        return Asked(parser.parser.get_method(), parser.target, parser.headers, parser.body)

    async def head(self) -> bytes:
        """The next request's head, as bytes."""
        return await self.reader.readuntil(b"\r\n\r\n")

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def left(self) -> None:
        """Return when the client has closed."""
        with contextlib.suppress(OSError):
            while await self.reader.read(65536):
                pass


class _Request:
    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.target = self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def feed(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


@contextlib.asynccontextmanager
async def peer(serve: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[Origin]:
    """A server of which each connection runs `serve`; an assertion that fails there fails the test."""
    failures: list[BaseException] = []
    running: set[asyncio.Task[None]] = set()
    accepted = 0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        connection = Peer(reader, writer)
        connection.number = accepted
        try:
            await serve(connection)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        except BaseException as failure:  # noqa: BLE001 - told to the test below
            failures.append(failure)
        finally:
            running.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**20)
    try:
        yield Origin("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    assert not failures, failures


def ok(body: bytes, *lines: bytes) -> bytes:
    """A complete answer."""
    head = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
