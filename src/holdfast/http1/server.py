"""The HTTP/1.1 server lane: theory of operation, the server, and `serve`.

The lane exists because one request through a general framework costs 60 to 120 µs of CPU, and answering 202 should not.
It is written so that a small request that arrives in one read is parsed, handed to the application, answered and
written within one callback of the event loop: no task, no future, no timer, one write. That costs about 11 µs on
uvloop, half of it in the kernel, and 27 µs on the plain loop.

Parts

    request_assembler.py   bytes -> request heads, body pieces, ends; or a refusal. No I/O.
    framing.py             decisions: is this head acceptable, how is this answer framed. No I/O, no state.
    exchange.py            one request and its answer, as the application sees them.
    lane.py                the seam between an exchange and its connection.
    connection.py          one socket: which exchange is next, how long to wait, when to stop reading, how to close.
    kernel.py              what only the kernel knows of a socket.
    server.py              all sockets: accepting, the clock, limits over all, stopping.

One exchange at a time

    A connection has at most one exchange that has begun (`_current`) and at most one whose body is arriving
    (`_incoming`); usually they are the same. Requests that a client pipelines wait, complete or not, in `_waiting`;
    each begins when the one before is answered *and* its body is read. What cannot be parsed waits there too, as a
    refusal, so that the answers before it still go out in order. `_advance` is a loop, never a recursion: a read may
    hold thousands of requests.

Reading is the client's back-pressure

    The socket is read while somebody has use for what may come: between requests; while a wanted body arrives; and
    while the application works on a complete request, because only reading shows that the client left. It is not read
    when a body arrives that the application has not asked for yet, when it called pause_body, when a later request
    has begun to arrive, or when the client does not take our answers. So what a connection holds is bounded by one
    read (256 KiB) beyond what the application itself asked for.

An exchange ends in one of these ways

    answered and read          the connection waits for the next request, or closes when either side said so
    answered, body unread      a short rest is read away; else the answer says `Connection: close` and we linger
    refused by the lane        the application hears on_gone; an answer of one sentence, then we linger
    broken off                 abort, or a crash after the answer began: the client sees an unfinished body
    client left                the application hears on_gone, a reader body_lost, a collect nothing

    Lingering: the answer is sent, our side is shut down, and what the client still sends is read away for `linger_s`.
    Closing at once would let the kernel answer the client's bytes with a reset, which can destroy our answer before
    the client has read it.

Time

    Nothing sets a timer per request. One timer per server, about once a second while there are connections, renews
    the clock (`now`, the Date line) and looks at every connection's deadline. A deadline is one float: until the head
    is complete, until more body comes, or until the next request. While the application works there is none: how long
    a call may take is its decision. A second float watches that a client with unsent bytes takes some.

Stopping

    `drain`: no new connections, idle ones close, exchanges under way finish with `Connection: close`; after the grace
    time the rest is cut.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate

from holdfast.http1.connection import ServerConnection
from holdfast.http1.exchange import Application, BodyReader, Exchange
from holdfast.http1.limits import Limits
from holdfast.unexpected import Work, guarded
from holdfast.yamux import Session

__all__ = ["Application", "BodyReader", "Exchange", "Limits", "Server", "serve"]

# The kernel's queue of connections not yet accepted; it caps the number at net.core.somaxconn.
BACKLOG = 2048
# How long leaving `serve` waits for exchanges under way.
LEAVING_GRACE_S = 1.0


OnRefused = Callable[[Exchange | None, int], None]


def _unheard(_exchange: Exchange | None, _status: int) -> None:
    """Nobody wants to know."""


class Server:
    """All connections of one application. Made by `serve`."""

    def __init__(
        self, application: Application, limits: Limits, on_refused: OnRefused = _unheard, proof: bytes = b""
    ) -> None:
        self.application = application
        self.limits = limits
        self.on_refused = on_refused
        self.proof = proof
        self.loop = asyncio.get_running_loop()
        self.draining: bool = False
        self.now: float = self.loop.time()
        """The loop's time at the last sweep: deadlines are set from it, a second of error costs nothing."""
        self.date: bytes = b""
        """The current Date header line."""
        self.held_bytes: int = 0
        """Request bodies in memory, over all connections; see Limits.max_held_bytes."""
        self.port: int = 0
        """The port of the first listening socket; stays when it is closed."""
        self._listeners: list[asyncio.Server] = []
        self._connections: set[ServerConnection] = set()
        self._sessions: set[Session] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._timer: asyncio.TimerHandle | None = None
        # Tests use short limits; a deadline is met to a quarter of itself, and the date to a second.
        shortest = min(
            limits.head_timeout_s,
            limits.idle_timeout_s,
            limits.body_timeout_s,
            limits.write_timeout_s,
            limits.linger_s,
        )
        self._interval = min(1.0, max(0.01, shortest / 4))

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def listen(self, sockets: list[socket.socket] | None, host: str, port: int) -> None:
        """Start accepting."""
        if sockets is None:
            listener = await self.loop.create_server(lambda: ServerConnection(self), host, port, backlog=BACKLOG)
            self._listeners.append(listener)
        for sock in sockets or ():
            if sock.family == socket.AF_UNIX:
                listener = await self.loop.create_unix_server(self._session, sock=sock, backlog=BACKLOG)
            else:
                listener = await self.loop.create_server(lambda: ServerConnection(self), sock=sock, backlog=BACKLOG)
            self._listeners.append(listener)
        if self._listeners:
            self.port = self._listeners[0].sockets[0].getsockname()[1]

    def _session(self) -> Session:
        """The protocol of a socket of our own clients on this machine, whose streams are connections."""
        session = Session(
            accept=lambda: ServerConnection(self), idle_s=self.limits.idle_timeout_s, on_lost=self._sessions.discard
        )
        self._sessions.add(session)
        return session

    async def drain(self, grace_s: float) -> None:
        """Stop accepting, let exchanges under way finish for at most `grace_s`, cut the rest. May be called again."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for session in self._sessions:
            session.go_away()
        for connection in list(self._connections):
            connection.drain()
        try:
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        except TimeoutError:
            self._cut()
            await self._empty.wait()
        for session in list(self._sessions):
            session.close()

    def _cut(self) -> None:
        for connection in list(self._connections):
            connection.kill()

    # ---- called by connections

    def admit(self, connection: ServerConnection) -> None:
        """A connection was made."""
        if not self._connections:
            self._empty.clear()
            self._sweep()
        self._connections.add(connection)

    def forget(self, connection: ServerConnection) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()
            if self._timer is not None:
                self._timer.cancel()

    @guarded(Work.ANSWERING)
    def _sweep(self) -> None:
        self._timer = self.loop.call_later(self._interval, self._sweep)
        self.now = now = self.loop.time()
        self.date = b"Date: %b\r\n" % formatdate(usegmt=True).encode()
        for connection in list(self._connections):
            connection.sweep(now)


@asynccontextmanager
async def serve(
    application: Application,
    *,
    sockets: list[socket.socket] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: Limits | None = None,
    on_refused: OnRefused = _unheard,
    proof: bytes = b"",
) -> AsyncIterator[Server]:
    """Serve `application` on `sockets` (listening or only bound) or on host and port (0: any) while the context lasts.

    `on_refused` hears of each refusal that the application did not give: of its request, or None of one that cannot be
    read, and its status. `proof` are header lines of the refusals of what cannot be read: nobody can tell whom that was
    for, and its sender has to know who refused it. Raises OSError when the address cannot be had. Leaving the context
    drains with a grace of a second; call `drain` before for more.
    """
    server = Server(application, limits or Limits(), on_refused, proof)
    await server.listen(sockets, host, port)
    try:
        yield server
    finally:
        await server.drain(LEAVING_GRACE_S)
