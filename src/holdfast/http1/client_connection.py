"""One connection to a peer: carries one flight at a time and tells how it went.

The theory is told at the head of client.py. How bytes become answers is answer_assembler.py's; whether a lost flight
is sent again and where an idle connection waits is the pool's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from holdfast.errors import AnswerMalformed, AnswerTimedOut, ConnectionLost, PeerError, WrongPeer
from holdfast.headers import INSTANCE, RawHeaders, first, without
from holdfast.http1.answer_assembler import AnswerAssembler
from holdfast.http1.flight import Flight
from holdfast.http1.framing import BodyFraming
from holdfast.http1.origin import Origin
from holdfast.unexpected import Work, set_aside
from holdfast.yamux import StreamRefused

if TYPE_CHECKING:
    from holdfast.http1.client import ClientPool

log = structlog.get_logger("holdfast.http1")

NEVER = float("inf")
_INSTANCE = INSTANCE.lower()


class ClientConnection(AnswerAssembler, asyncio.Protocol):
    """The protocol of one socket to a peer."""

    def __init__(self, pool: ClientPool, origin: Origin, *, shares: bool = False) -> None:
        super().__init__(pool.max_header_bytes)
        self.origin = origin
        self.deadline: float = NEVER
        """When the flight, or the idle time, is over, by the loop's clock."""
        self.flight: Flight | None = None
        self.shares = shares
        """Whether it shares a socket that was there before: one that may be dead, as a kept connection may."""
        self._proven = not origin.instance
        """Whether the one who answers here is the one that is meant. A connection leads to one process for all its
        life, so its first answer tells."""
        self._pool = pool
        self._transport: asyncio.Transport = None  # type: ignore[assignment] # set before anything else is called
        self._reused = False
        self._write_paused = False
        self._reading = True

    # ---- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection (and TLS) is made; the pool goes on when create_connection returns."""
        self._transport = transport  # type: ignore[assignment] # a stream transport: this is a stream protocol
        self._pool.connected(self)

    def data_received(self, data: bytes) -> None:
        """HOT: parse what came; a small answer is received and the connection pooled inside."""
        if self.flight is None:
            self._transport.abort()  # bytes that nobody asked for: the next answer could not be told from them
            return
        try:
            self.feed(data)
        except Exception as failed:  # noqa: BLE001 - one answer must not cost the others
            set_aside(Work.ASKING, failed)
            self._fail(ConnectionLost(str(self.origin), f"the answer of {self.origin} could not be processed"))
        if self.complete:
            self._completed()
        elif self.flight is not None:
            self.flight.receiver.more_to_come()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by whomever."""
        flight = self.flight
        self._pool.forget(self)
        if flight is not None:
            if exc is None and self.feed_eof():
                self.flight = None
                flight.end()
            elif self._not_looked_at(exc, flight) or (self._reused and not self.heard and flight.replayable):
                self.flight = flight.connection = None
                self._pool.fly_again(flight)
            else:
                self._fail(self._loss(exc))
        self.forget_parser()

    def pause_writing(self) -> None:
        """The peer does not take what we send."""
        self._write_paused = True
        if self.flight is not None:
            self.flight.flow(paused=True)

    def resume_writing(self) -> None:
        """It does again."""
        self._write_paused = False
        if self.flight is not None:
            self.flight.flow(paused=False)

    # ---- the assembler

    def take_head(self, status: int, headers: RawHeaders) -> None:
        """The head of the final answer."""
        if not self._proven:
            if not self._proves(status, headers):
                return
            headers = without(headers, _INSTANCE)
        if self.flight is not None:
            self.flight.receiver.head(status, headers)

    def _proves(self, status: int, headers: RawHeaders) -> bool:
        """Whether the first answer names the instance that was meant; if not, it reaches nobody."""
        self._proven = first(headers, _INSTANCE) == self.origin.instance.encode()
        if not self._proven:
            self._fail(self._wrong(f"answered {status}"))
        return self._proven

    def _wrong(self, what: str) -> WrongPeer:
        origin = self.origin
        return WrongPeer(str(origin), f"{origin} {what} and is not {origin.instance}, which the request was for")

    def take_data(self, data: bytes) -> None:
        """The next bytes of its body."""
        if self.flight is not None:
            self.flight.receiver.data(data)

    def take_fault(self, fault: str) -> None:
        """The peer does not speak HTTP/1.1."""
        if self.unreadable and not self._proven:
            # What our server sends can be read: whoever has its port now is another.
            self._fail(self._wrong(fault))
        else:
            self._fail(AnswerMalformed(str(self.origin), f"{self.origin} {fault}"))

    # ---- called by the pool and the flight

    @property
    def usable(self) -> bool:
        """Whether another request can be sent, as far as this side knows."""
        return not self._transport.is_closing()

    def carry(self, flight: Flight, *, reused: bool) -> None:
        """Send a flight's request. HOT."""
        self.flight = flight
        self.deadline = flight.deadline
        self._reused = reused
        self.expect(head_only=flight.request.startswith(b"HEAD "))
        flight.board(self)

    def write(self, data: bytes) -> bool:
        """Send; False when the peer does not take it as fast. HOT."""
        self._transport.write(data)
        return not self._write_paused

    def pause_reading(self) -> None:
        """Read no more for now."""
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def drop(self) -> None:
        """Close at once; the flight hears nothing."""
        self.flight = None
        self._transport.abort()

    def expire(self) -> None:
        """The deadline has passed."""
        flight = self.flight
        if flight is None:
            self._transport.abort()
        else:
            self._fail(AnswerTimedOut(str(self.origin), flight.timeout_s or 0.0))

    def close(self) -> None:
        """The pool closes."""
        if self.flight is not None:
            self._fail(ConnectionLost(str(self.origin), f"the client was closed while {self.origin} was answering"))
        else:
            self._transport.abort()

    # ---- how a flight ends

    def _completed(self) -> None:
        """The answer is complete: pool the connection first, so that the receiver's next request can have it. HOT."""
        flight, self.flight = self.flight, None
        if flight is None:
            return  # cancelled by its receiver; the connection is closed
        keep = self.reusable and not flight.body_due and not self._transport.is_closing()
        if keep and flight.framing is not BodyFraming.NONE:
            # Each streamed request brings a new connection and takes none: do not hoard what is not needed.
            keep = not self._pool.has_idle(self.origin)
        if keep:
            if not self._reading:
                self.resume_reading()
            self._pool.put(self)
        else:
            self._transport.abort()
        flight.end()

    def _fail(self, error: PeerError) -> None:
        flight, self.flight = self.flight, None
        self._transport.abort()
        if flight is not None:
            flight.fail(error)

    def _not_looked_at(self, exc: Exception | None, flight: Flight) -> bool:
        """Whether the peer has seen nothing of a request that can be sent once more as a whole."""
        return isinstance(exc, StreamRefused) and flight.framing is BodyFraming.NONE

    def _loss(self, exc: Exception | None) -> ConnectionLost:
        what = f"was lost ({exc})" if exc is not None else "was closed"
        when = "within the answer" if self.heard else "before the answer"
        return ConnectionLost(str(self.origin), f"the connection to {self.origin} {what} {when}")
