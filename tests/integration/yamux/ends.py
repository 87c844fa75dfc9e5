"""Both ends of a session over a real socket pair: two sessions, or one and a peer that sends what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from holdfast.yamux import Session, Stream
from holdfast.yamux.frames import HEADER

PATIENCE_S = 20.0


class End(asyncio.Protocol):
    """One end of a stream: writes down what it hears."""

    stream: Stream

    def __init__(self) -> None:
        self.received = bytearray()
        self.paused = False
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.resumed = asyncio.Event()
        self.eof = asyncio.Event()
        self.stays_open = False
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Stream)
        self.stream = transport

    def data_received(self, data: bytes) -> None:
        assert data
        assert not self.lost.done()
        self.received += data
        self._changed.set()

    def eof_received(self) -> bool:
        self.eof.set()
        return self.stays_open

    def pause_writing(self) -> None:
        assert not self.paused
        self.paused = True
        self.resumed.clear()

    def resume_writing(self) -> None:
        assert self.paused
        self.paused = False
        self.resumed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    async def until(self, size: int) -> bytes:
        """What was received, once it is so much."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.received) < size:
                self._changed.clear()
                await self._changed.wait()
        return bytes(self.received)

    async def end(self) -> Exception | None:
        async with asyncio.timeout(PATIENCE_S):
            return await self.lost


class Echo(End):
    """Sends back what it gets, and reads no more while that is not taken."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.stream.write(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stream.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.stream.resume_reading()


class Joined(NamedTuple):
    client: Session
    server: Session
    accepted: list[End]
    """In the order in which they came."""
    lost: list[Session]
    """The sessions that have ended."""

    def open(self, end: End | None = None) -> End:
        end = end or End()
        self.client.open(end)
        return end

    async def accepts(self, count: int) -> list[End]:
        """The accepted ends, once they are so many."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.accepted) < count:
                await asyncio.sleep(0)
        return self.accepted

    async def ended(self) -> None:
        """Return once both have ended."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.lost) < 2:
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def joined(make: Callable[[], End] = End, *, idle_s: float = 60.0) -> AsyncIterator[Joined]:
    """Two sessions; what the second one accepts are `make()`s."""
    loop = asyncio.get_running_loop()
    accepted: list[End] = []
    lost: list[Session] = []

    def accept() -> End:
        accepted.append(make())
        return accepted[-1]

    client = Session(accept=None, idle_s=idle_s, on_lost=lost.append)
    server = Session(accept=accept, idle_s=idle_s, on_lost=lost.append)
    ours, theirs = socket.socketpair()
    for sock, session in ((ours, client), (theirs, server)):
        sock.setblocking(False)
        await loop.create_unix_connection(lambda session=session: session, sock=sock)  # type: ignore[misc]
    both = Joined(client, server, accepted, lost)
    yield both
    client.close()
    server.close()
    await both.ended()


class Raw(NamedTuple):
    """A peer that sends frames as it is told to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    accepted: list[End]

    def send(self, kind: int, flags: int, number: int, length: int, data: bytes = b"", *, version: int = 0) -> None:
        self.writer.write(HEADER.pack(version, kind, flags, number, length) + data)

    async def frame(self) -> tuple[int, int, int, int]:
        """The next frame's type, flags, stream and length; its data is read away."""
        async with asyncio.timeout(PATIENCE_S):
            _, kind, flags, number, length = HEADER.unpack(await self.reader.readexactly(HEADER.size))
            if kind == 0:
                await self.reader.readexactly(length)
            return kind, flags, number, length

    async def closed(self) -> None:
        """Return once the session has closed the socket."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass


@contextlib.asynccontextmanager
async def raw(make: Callable[[], End] = End) -> AsyncIterator[Raw]:
    """A session that accepts, and a raw peer at its other end."""
    async with waiting_for(b"", make) as peer:
        yield peer


@contextlib.asynccontextmanager
async def waiting_for(sent: bytes, make: Callable[[], End], *, ended: bool = False) -> AsyncIterator[Raw]:
    """The same, where bytes were sent, and perhaps the sending ended, before the session begins to read."""
    loop = asyncio.get_running_loop()
    accepted: list[End] = []
    over = asyncio.Event()

    def accept() -> End:
        accepted.append(make())
        return accepted[-1]

    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
    ours.setblocking(False)
    theirs.setblocking(False)
    assert not sent or ours.send(sent) == len(sent)
    if ended:
        ours.shutdown(socket.SHUT_WR)
    session = Session(accept=accept, idle_s=60, on_lost=lambda _: over.set())
    await loop.create_unix_connection(lambda: session, sock=theirs)
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    yield Raw(reader, writer, accepted)
    writer.transport.abort()
    session.close()
    async with asyncio.timeout(PATIENCE_S):
        await over.wait()
