"""The HTTP/1.1 client pool: theory of operation, the pool, and `fetch`.

The pool exists because one request through a general client costs 80 µs to 3 ms of CPU, and calling a function should
not. On an idle connection a request is one write, and a small answer that comes in one read is parsed, handed over and
the connection pooled again within one callback of the event loop: no task, no timer, and a future only for `fetch`.
That costs about 10 µs on uvloop (`fetch` 12), half of it in the kernel.

Parts

    origin.py             where a peer listens.
    answer_assembler.py   bytes -> answer head, body pieces, completion; or a fault. No I/O.
    flight.py             one request and its answer, as the caller sees them.
    collector.py          an answer from its pieces, whole for `fetch`, its head for `fetch_head`.
    client_connection.py  one socket: carries a flight, knows whether it can carry another.
    client.py             all sockets: which connection a flight gets, deadlines, closing.

Choosing a connection

    The youngest idle one of the origin (a stack: the others may grow old and close), else a new one. A request whose
    body is streamed always gets a new one, because it could not be sent again. No connection is shared and no flight
    waits for another: how many run at once is the caller's decision.

A kept connection may be dead

    A server may close an idle connection at any time, also in the moment in which we write to it. Then not one byte
    comes back, and the request goes out once more, on a fresh connection, if `replayable`. (RFC 9112, section 9.3.1,
    lets a client repeat when it knows that the request was not processed; a server that closes without a byte has not
    begun to answer. What must never run twice is sent with replayable=False.) A fresh connection that ends without a
    byte is ConnectionLost: there the server saw the request.

What makes an answer complete

    Its Content-Length, its last chunk, or, when it has neither, the orderly end of the connection. The head completes
    an answer to HEAD and those with 204 and 304. An end before that is ConnectionLost, however much came: a short
    result never passes for a whole one. Interim answers (1xx) are skipped, but 101 and everything that is not
    HTTP/1.x is AnswerMalformed. Redirects are answers like any other. Nothing is decoded.

When a connection is used again

    The answer was complete and nothing followed it, both sides keep alive, our own body was sent, and nobody
    cancelled. Everything else closes it. Bytes that arrive while no flight is on board close it as well: they could
    be taken for the answer to the next request.

A peer on the same machine

    An origin with a Unix socket gets its connections as streams of one session over that socket (yamux/): requests
    of one turn of the loop leave in one write. They are connections like others, kept and closed as such. A stream
    that the peer resets before it took it has not been looked at, so that request is sent again whatever it is.

Time

    Nothing sets a timer per request. Each connection has one deadline, of its flight or of its idle time; one timer
    per pool fires at the earliest of them (but not more often than every 50 ms) and looks at all. Since most
    deadlines are renewed before they pass, the timer fires seldom.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from holdfast.errors import ConnectFailed, PeerError
from holdfast.http1.client_connection import ClientConnection
from holdfast.http1.collector import Answer, Collector, HeadCollector
from holdfast.http1.flight import Flight, Receiver
from holdfast.http1.framing import BodyFraming
from holdfast.http1.origin import Origin
from holdfast.unexpected import Work, alone, guarded
from holdfast.yamux import Session

__all__ = ["Answer", "BodyFraming", "ClientPool", "Collector", "Flight", "HeadCollector", "Origin", "Receiver"]

NEVER = float("inf")
# Deadlines are met this late at most; a timeout of a call is seconds.
SWEEP_AT_MOST_EVERY_S = 0.05
CLOSING_TIMEOUT_S = 5.0
SESSION_IDLE_S = 1.0
# A socket without connections is closed after this long.


class ClientPool:
    """Connections to HTTP/1.1 peers. Used as an async context manager; leaving it fails what is still in flight."""

    def __init__(
        self,
        *,
        max_idle_per_origin: int = 1024,
        connect_timeout_s: float = 5.0,
        idle_timeout_s: float = 30.0,
        max_header_bytes: int = 131_072,
        tls: ssl.SSLContext | None = None,
        addresses: Callable[[Origin], Awaitable[Sequence[str]]] | None = None,
    ) -> None:
        """Settings of the pool.

        Args:
            max_idle_per_origin: Connections kept open for an origin; those beyond it are closed after their answer.
            connect_timeout_s: Name resolution, TCP and TLS together; a shorter timeout of the request counts first.
            idle_timeout_s: After this long without a request a connection is closed. Shorter than the 75 s after
            which our
                own server closes, so that the client is the one who does.
            max_header_bytes: The largest head of an answer, interim answers and trailers included.
            tls: For https origins; None: ssl.create_default_context(), made when first needed.
            addresses: Chooses the addresses that a new connection may be made to, tried in turn; the origin's host
                stays the name in `Host`, SNI and the certificate. May raise PeerError or OSError. None: the system's
                resolver, any address.
        """
        self.max_header_bytes = max_header_bytes
        self._max_idle_per_origin = max_idle_per_origin
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._tls = tls
        self._addresses = addresses
        self._idle: dict[Origin, list[ClientConnection]] = {}
        self._sessions: dict[str, Session] = {}
        self._attaching: set[asyncio.Task[None]] = set()
        self._connections: set[ClientConnection] = set()
        self._connecting: dict[asyncio.Task[None], Flight] = {}
        self._closed = True
        self._all_closed: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_sweep = NEVER

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._closed = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task, flight in list(self._connecting.items()):
            flight.fail(_closed_before(flight.origin))
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for connection in list(self._connections):
            connection.close()
        await asyncio.gather(*self._attaching)
        for session in list(self._sessions.values()):
            session.close()
        if self._connections:
            # Aborted connections close in one of the loop's next turns; none depends on its peer.
            self._all_closed = self._loop.create_future()
            async with asyncio.timeout(CLOSING_TIMEOUT_S):
                await self._all_closed

    @property
    def idle(self) -> int:
        """How many connections wait for a request."""
        return sum(len(stack) for stack in self._idle.values())

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    # ---- sending

    def send(
        self,
        origin: Origin,
        request: bytes,
        receiver: Receiver,
        *,
        timeout_s: float | None,
        replayable: bool = True,
        body: BodyFraming = BodyFraming.NONE,
    ) -> Flight:
        """Send a request; its answer goes to `receiver`. HOT.

        Args:
            origin: The peer.
            request: A complete HTTP/1.1 message, with its `Host`; only its head when `body` says that a body follows.
            receiver: Called from the event loop, never before `send` returns.
            timeout_s: From now to the end of the answer; None: no limit.
            replayable: Whether the request may be sent again when a kept connection ended without a byte of an answer.
            body: How the body that follows through `Flight.write` and `Flight.end_body` is framed: LENGTH (the head has
                Content-Length) or CHUNKED (it has Transfer-Encoding; the flight writes the chunks). NONE: nothing
                follows.
        """
        if self._closed:
            raise RuntimeError("the client pool is not open")
        deadline = NEVER if timeout_s is None else self._loop.time() + timeout_s
        flight = Flight(
            origin,
            request,
            receiver,
            timeout_s=timeout_s,
            deadline=deadline,
            replayable=replayable,
            framing=body,
        )
        stack = self._idle.get(origin)
        if stack and body is BodyFraming.NONE:
            while stack:
                connection = stack.pop()
                if connection.usable:
                    if deadline < self._next_sweep:
                        self._sweep_at(deadline)
                    connection.carry(flight, reused=True)
                    return flight
        self._connect(flight)
        return flight

    async def fetch(self, origin: Origin, request: bytes, *, timeout_s: float, max_body_bytes: int) -> Answer:
        """Send a request and collect its whole answer. Raises PeerError; cancelling it closes the connection."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        collector = Collector(future, max_body_bytes, origin)
        flight = collector.flight = self.send(origin, request, collector, timeout_s=timeout_s)
        try:
            return await future
        finally:
            flight.cancel()  # does nothing when the answer came

    async def fetch_head(
        self,
        origin: Origin,
        request: bytes,
        *,
        timeout_s: float,
        max_body_bytes: int,
        on_over: Callable[[PeerError | None], None],
    ) -> Answer:
        """Send a request and return with the head of its answer, as soon as it is there; the answer's body is empty.

        What follows is read and thrown away, for as long as `timeout_s` from now and up to `max_body_bytes`; then the
        connection is used again, or closed, and `on_over` is called, with the error if there is one. Raises PeerError;
        cancelling it closes the connection.
        """
        future: asyncio.Future[Answer] = self._loop.create_future()
        collector = HeadCollector(future, max_body_bytes, origin, on_over)
        collector.flight = self.send(origin, request, collector, timeout_s=timeout_s)
        try:
            return await future
        except asyncio.CancelledError:
            collector.cancel()
            raise

    async def heard(self, origin: Origin) -> None:
        """Return once a peer on this machine has read all that was sent to it, so that what was given up has ended.

        Of a peer that is reached by its port nothing can be asked: the end of a connection is all that it is told.
        """
        session = self._sessions.get(origin.local) if origin.local else None
        if session is not None:
            await session.heard()

    def _connect(self, flight: Flight) -> None:
        opening = alone(Work.ASKING, lambda: self._open(flight), lambda error: self._not_opened(flight, error))
        task = flight.connecting = self._loop.create_task(opening)
        self._connecting[task] = flight
        task.add_done_callback(self._connecting.pop)

    @staticmethod
    def _not_opened(flight: Flight, error: Exception) -> None:
        flight.fail(ConnectFailed(str(flight.origin), f"no connection to {flight.origin} could be made: {error!r}"))

    async def _open(self, flight: Flight) -> None:
        """Make a connection for a flight. Owned by the pool: `_connecting` holds it, leaving the pool awaits it."""
        origin = flight.origin
        remaining = flight.deadline - self._loop.time()
        limit = min(self._connect_timeout_s, max(remaining, 0.0))
        try:
            async with asyncio.timeout(limit):
                connection = await self._connection_to(origin)
        except PeerError as error:
            flight.fail(error)
        except TimeoutError:
            flight.fail(ConnectFailed(str(origin), f"no connection to {origin} could be made within {limit:.3g} s"))
        except (OSError, ValueError, UnicodeError) as error:
            # OSError: refused, unreachable, name unknown, TLS; the others: names that cannot be encoded.
            flight.fail(ConnectFailed(str(origin), f"no connection to {origin} could be made: {error}"))
        else:
            flight.connecting = None
            if flight.over:
                connection.drop()
            elif not connection.usable:
                flight.fail(ConnectFailed(str(origin), f"{origin} closed the connection before it could be called"))
            else:
                if flight.deadline < self._next_sweep:
                    self._sweep_at(flight.deadline)
                connection.carry(flight, reused=connection.shares)

    async def _connection_to(self, origin: Origin) -> ClientConnection:
        """Connect to the origin's host, or to the first of its chosen addresses that can be reached."""
        context = self._tls_context() if origin.tls else None
        if origin.local:
            session = self._sessions.get(origin.local)
            shares = session is not None and session.usable
            if session is None or not shares:
                session = self._new_session(origin.local)
            if session is not None:
                connection = ClientConnection(self, origin, shares=shares)
                session.open(connection)
                return connection
        if self._addresses is None:
            return await self._dial(origin, origin.host, context)
        failed = OSError(f"{origin.host} has no address")
        for address in await self._addresses(origin):
            try:
                return await self._dial(origin, address, context, origin.host.rstrip(".") if origin.tls else None)
            except OSError as error:
                failed = error
        raise failed

    async def _dial(
        self, origin: Origin, address: str, context: ssl.SSLContext | None, server_hostname: str | None = None
    ) -> ClientConnection:
        connection = ClientConnection(self, origin)
        try:
            await self._loop.create_connection(
                lambda: connection, address, origin.port, ssl=context, server_hostname=server_hostname
            )
        except BaseException:
            # Given up in the moment in which it was made, uvloop closes it and does not tell.
            self.forget(connection)
            raise
        return connection

    def _new_session(self, local: str) -> Session | None:
        """A session with a peer on this machine; None when it has to be reached by port."""
        sock = _connect_local(local)
        if sock is None:
            return None

        def lost(session: Session) -> None:
            if self._sessions.get(local) is session:
                del self._sessions[local]

        session = self._sessions[local] = Session(accept=None, idle_s=SESSION_IDLE_S, on_lost=lost)
        attaching = alone(Work.ASKING, lambda: _attach(self._loop, session, sock), lambda _: None)
        task = self._loop.create_task(attaching)
        self._attaching.add(task)
        task.add_done_callback(self._attaching.discard)
        return session

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    # ---- called by connections

    def connected(self, connection: ClientConnection) -> None:
        """A connection was made."""
        self._connections.add(connection)

    def put(self, connection: ClientConnection) -> None:
        """A connection can carry another request. HOT."""
        stack = self._idle.get(connection.origin)
        if stack is None:
            stack = self._idle[connection.origin] = []
        if len(stack) >= self._max_idle_per_origin or self._closed:
            connection.drop()
            return
        connection.deadline = deadline = self._loop.time() + self._idle_timeout_s
        if deadline < self._next_sweep:
            self._sweep_at(deadline)
        stack.append(connection)

    def has_idle(self, origin: Origin) -> bool:
        """Whether a connection of this origin waits for a request."""
        return origin in self._idle and bool(self._idle[origin])

    def forget(self, connection: ClientConnection) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
        if self._all_closed is not None and not self._connections:
            self._all_closed.set_result(None)
            self._all_closed = None
        stack = self._idle.get(connection.origin)
        if stack is not None:
            if connection in stack:
                stack.remove(connection)
            if not stack:
                del self._idle[connection.origin]  # origins come and go with replicas

    def fly_again(self, flight: Flight) -> None:
        """A kept connection was closed before a byte of the answer came: once more, on a fresh one."""
        flight.replayable = False
        if self._closed:
            flight.fail(_closed_before(flight.origin))
        else:
            self._connect(flight)

    # ---- time

    def _sweep_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_sweep = when
        self._timer = self._loop.call_at(when, self._sweep)

    @guarded(Work.ASKING)
    def _sweep(self) -> None:
        self._next_sweep = NEVER
        self._timer = None
        now = self._loop.time()
        earliest = NEVER
        expire = guarded(Work.ASKING)(ClientConnection.expire)
        for connection in list(self._connections):
            if connection.deadline <= now:
                connection.deadline = NEVER
                expire(connection)
            else:
                earliest = min(earliest, connection.deadline)
        if earliest < self._next_sweep:
            self._sweep_at(max(earliest, now + SWEEP_AT_MOST_EVERY_S))


async def _attach(loop: asyncio.AbstractEventLoop, session: Session, sock: socket.socket) -> None:
    """Give a session its socket, which is connected: what was written before leaves now."""
    try:
        await loop.create_unix_connection(lambda: session, sock=sock)
    except OSError as error:
        session.connection_lost(error)


def _connect_local(name: str) -> socket.socket | None:
    """Connect to a Unix socket, which is done at once or not at all. None: the peer has to be reached by its port.

    So it is when its backlog is full, when the peer is in another network namespace, and where there are no such
    sockets.
    """
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        sock.connect(name)
    except OSError:
        sock.close()
        return None
    return sock


def _closed_before(origin: Origin) -> ConnectFailed:
    return ConnectFailed(str(origin), f"the client was closed before {origin} could be called")
