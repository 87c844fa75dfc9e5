"""One client's connection: the order of its exchanges, deadlines, back-pressure, and how it ends.

The theory is told at the head of server.py. How bytes become requests is request_assembler.py's, what makes a request
acceptable framing.py's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from holdfast.headers import RawHeaders
from holdfast.http1.exchange import COLLECT, HOLD, STREAM, Exchange
from holdfast.http1.framing import BodyFraming, Refusal, body_too_large, refusal_message
from holdfast.http1.kernel import reset, unacknowledged
from holdfast.http1.request_assembler import RequestAssembler
from holdfast.incoming import FRESH_S, Incoming
from holdfast.unexpected import Work, set_aside
from holdfast.yamux import Stream

if TYPE_CHECKING:
    from holdfast.http1.server import Server

NEVER = float("inf")


class ServerConnection(RequestAssembler, asyncio.Protocol):
    """The protocol of one accepted socket."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.limits)
        self.server = server
        self.loop = server.loop
        self.client_host = ""
        self.reading = True
        self.proven = False
        self._transport: asyncio.Transport = None  # type: ignore[assignment] # set before anything else is called
        # The exchange whose body arrives, the one being answered (often the same), and what waits behind it.
        self._incoming: Exchange | None = None
        self._current: Exchange | None = None
        self._waiting: deque[Exchange | Refusal] = deque()
        self._advancing = False
        self._lingering = False
        self._write_paused = False
        self._unsent = 0
        self._deadline = NEVER
        self._write_deadline = NEVER
        self._looked_at = -NEVER

    # ---- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = transport  # type: ignore[assignment] # a stream transport: this is a stream protocol
        peer = transport.get_extra_info("peername")
        self.client_host = peer[0] if isinstance(peer, tuple) else ""
        self.server.admit(self)
        self._deadline = self.server.now + self.limits.idle_timeout_s
        if self.server.connections > self.limits.max_connections:
            self.take_refusal(Refusal(503, f"The server has {self.limits.max_connections} connections, its limit.", 1))
        elif self.server.draining:
            self._close()

    def data_received(self, data: bytes) -> None:
        """HOT: a small request is read, run and answered inside."""
        if self.deaf:
            return
        was_in_head = self.in_head
        self.feed(data)
        if self._current is None and not self.in_head and not self._waiting:
            return
        if not self.deaf:
            if self._current is None and self.in_head and not was_in_head:
                self._deadline = self.server.now + self.limits.head_timeout_s
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by whomever. A client that half-closes has left, too."""
        del exc
        self.deaf = True
        self._deadline = self._write_deadline = NEVER
        self.server.forget(self)
        current, self._current, self._incoming = self._current, None, None
        self._waiting.clear()
        self.forget_parser()
        if current is not None:
            self._tell_lost(current)

    def pause_writing(self) -> None:
        """The client does not take what we send."""
        self._write_paused = True
        self._watch_writing()
        if self._current is not None:
            self._current.flow(paused=True)

    def resume_writing(self) -> None:
        """It does again."""
        self._write_paused = False
        if not self._transport.is_closing():
            self._write_deadline = NEVER
        if self._current is not None:
            self._current.flow(paused=False)
        elif not self._lingering:
            self._advance()

    # ---- the assembler

    def take_request(
        self, method: bytes, target: bytes, headers: RawHeaders, fields: dict[bytes, bytes], *, version: str, keep: bool
    ) -> None:
        """Begin the request, or let it wait for those before it. HOT."""
        keep = keep and not self.server.draining
        exchange = Exchange(self, method, target, headers, fields, version=version, keep=keep)
        # A request without a body is complete here already: the parser's word for it would come too late for an answer
        # that is given in `begin`.
        exchange.complete = not (exchange.content_length or exchange.chunked)
        if self._current is None and not self._waiting and not self._write_paused:
            self._incoming = None if exchange.complete else exchange
            self._current = exchange
            self._begin(exchange)
        elif len(self._waiting) < self.limits.max_pipelined:
            self._incoming = None if exchange.complete else exchange
            self._waiting.append(exchange)
        else:
            limit = self.limits.max_pipelined
            self.take_refusal(Refusal(400, f"More than {limit} requests wait for an answer on this connection."))

    def take_body(self, data: bytes) -> None:
        """Put the bytes where the application wants them. HOT."""
        exchange = self._incoming
        if exchange is None:
            return
        exchange.received += len(data)
        mode = exchange.mode
        if mode == COLLECT or mode == HOLD:  # noqa: PLR1714, SIM109 - a tuple costs more, and this is hot
            exchange.parts.append(data)
            if exchange.chunked and mode == COLLECT and not exchange.keep_in_memory(len(data)):
                return
        elif mode == STREAM and exchange.reader is not None and exchange.received <= exchange.limit:
            try:
                exchange.reader.body_data(data)
            except Exception as error:  # noqa: BLE001 - one request must not cost the server
                set_aside(Work.ANSWERING, error)
                self._crashed(exchange)
        if exchange.received > exchange.limit:
            self.refuse(exchange, body_too_large(int(exchange.limit)))

    def take_end(self) -> None:
        """The request is complete. HOT."""
        exchange, self._incoming = self._incoming, None
        if exchange is None:
            return
        exchange.complete = True
        if exchange.mode == COLLECT:
            self.deliver(exchange)
        elif exchange.reader is not None:
            reader, exchange.reader = exchange.reader, None
            try:
                reader.body_end()
            except Exception as error:  # noqa: BLE001 - one request must not cost the server
                set_aside(Work.ANSWERING, error)
                self._crashed(exchange)
        elif exchange.over and exchange is self._current:
            self._next()

    def take_refusal(self, refusal: Refusal) -> None:
        """What the client sends cannot be read on: answer what was asked before, then refuse and close."""
        self.deaf = True
        self.in_head = False
        incoming, self._incoming = self._incoming, None
        if incoming is not None and incoming is self._current:
            if incoming.over:
                self._close(read_away=True)  # its answer is complete: there is nothing left to say
            else:
                self.refuse(incoming, refusal)
            return
        if incoming is not None:
            self._waiting.pop()
        self._waiting.append(refusal)
        if self._current is None:
            self._advance()

    # ---- the order of the exchanges

    def _begin(self, exchange: Exchange) -> None:
        exchange.since = self.server.now
        try:
            self.server.application.begin(exchange)
        except Exception as error:  # noqa: BLE001 - one request must not cost the server
            set_aside(Work.ANSWERING, error)
            self._crashed(exchange)

    def _crashed(self, exchange: Exchange) -> None:
        """The application raised: answer 500, or break the answer off, and close."""
        if not exchange.over:
            self.refuse(exchange, Refusal(500, "The server failed on this request."))

    def _next(self) -> None:
        """The current exchange is over and its request read: go on to the next one, or wait for it. HOT."""
        exchange, self._current = self._current, None
        if exchange is not None and not exchange.keep:
            self._close()
            return
        limits = self.limits
        self._deadline = self.server.now + (limits.head_timeout_s if self.in_head else limits.idle_timeout_s)
        if self._waiting:
            self._advance()
        elif not self.reading:
            self._read_on()

    def _advance(self) -> None:
        if self._advancing:
            return  # an answer given inside _begin came back here: the loop below goes on
        self._advancing = True
        while self._waiting and self._current is None and not self._write_paused:
            item = self._waiting.popleft()
            if isinstance(item, Refusal):
                self._send_refusal(item, None)
            else:
                self._current = item
                self._begin(item)
        self._advancing = False
        if self.deaf:
            return
        if self._current is not None:
            self._wait()
        elif not self._waiting and not self._write_paused:
            self._read_on()

    def _wait(self) -> None:
        """Something is under way: bound what may still come, and stop reading what cannot be used yet."""
        current, incoming = self._current, self._incoming
        if current is None:
            if self._write_paused:
                self._pause_reading()
        elif incoming is None:
            # Read on while the application works, to learn that the client left; but not what belongs to later
            # requests.
            self._deadline = NEVER
            if self.in_head or self._waiting:
                self._pause_reading()
        elif incoming is current and current.mode != HOLD:
            self._deadline = self._body_due(current) if self.reading else NEVER
        else:
            self._deadline = NEVER
            self._pause_reading()

    def _tell_lost(self, exchange: Exchange) -> None:
        try:
            exchange.leave()
        except Exception as error:  # noqa: BLE001 - one request must not cost the server
            set_aside(Work.ANSWERING, error)

    # ---- called by exchanges

    @property
    def date(self) -> bytes:
        """The current `Date` line, at most a second old."""
        return self.server.date

    def write(self, data: bytes) -> bool:
        """Send; False when the client does not take it as fast. HOT."""
        self._transport.write(data)
        return not self._write_paused

    def deliver(self, exchange: Exchange) -> None:
        """Hand a collected body over. HOT."""
        done, parts = exchange.done, exchange.parts
        exchange.done = None
        if done is None:
            return
        if len(parts) != 1:
            parts[:] = [b"".join(parts)]
        try:
            done(exchange, parts[0])
        except Exception as error:  # noqa: BLE001 - one request must not cost the server
            set_aside(Work.ANSWERING, error)
            self._crashed(exchange)

    def body_wanted(self, exchange: Exchange) -> None:
        """The application wants the body: read on."""
        if exchange is self._incoming:
            if exchange.paused_at:
                # The time in which nobody wanted it is not the client's.
                exchange.since += self.server.now - exchange.paused_at
                exchange.paused_at = 0.0
            self._deadline = self._body_due(exchange)
            self._read_on()

    def _body_due(self, exchange: Exchange) -> float:
        """Until when more of a body must have come."""
        limits = self.limits
        due = self.server.now + limits.body_timeout_s
        if not exchange.steady or not limits.min_body_rate:
            return due
        return min(due, exchange.since + limits.body_timeout_s + exchange.received / limits.min_body_rate)

    def pause_body(self, exchange: Exchange) -> None:
        """The application wants no more of the body for now: it, not the client, decides how long."""
        if exchange is self._incoming:
            exchange.paused_at = exchange.paused_at or self.server.now
            self._deadline = NEVER
            self._pause_reading()

    def if_still_there(self, exchange: Exchange, run: Callable[[], None]) -> None:
        """Call `run` if the client has not left. HOT: 0.3 µs while requests come one after the other.

        Its end may lie behind what is read already: the kernel knows of it. On a shared socket the end of a stream is a
        frame among others, so all that has come is read first.
        """
        transport = self._transport
        if isinstance(transport, Stream):
            there = transport.still_there()
            if there:
                self._still_there(exchange, run)
            elif there is None:
                transport.if_still_there(partial(self._still_there, exchange, run))
            else:
                transport.abort()  # connection_lost follows, and tells the application
            return
        before, self._looked_at = self._looked_at, self.loop.time()
        if self._looked_at - before >= FRESH_S:
            if transport.is_closing():
                return
            if Incoming(transport).look() is None:
                transport.abort()
                return
        self._still_there(exchange, run)

    def _still_there(self, exchange: Exchange, run: Callable[[], None]) -> None:
        if exchange.over:
            return
        try:
            run()
        except Exception as error:  # noqa: BLE001 - one request must not cost the server
            set_aside(Work.ANSWERING, error)
            self._crashed(exchange)

    def may_drain(self, exchange: Exchange) -> bool:
        """Whether the rest of an unwanted body is short enough to be read and thrown away."""
        length = exchange.content_length
        return length is not None and length - exchange.received <= self.limits.max_drain_bytes

    def hold(self, size: int) -> bool:
        """Keep bytes of a body in memory, if all connections together may."""
        server = self.server
        if server.held_bytes + size > self.limits.max_held_bytes:
            return False
        server.held_bytes += size
        return True

    def let_go(self, size: int) -> None:
        """They are not kept any more."""
        self.server.held_bytes -= size

    def answer_finished(self, exchange: Exchange) -> None:
        """The answer is complete. HOT."""
        if exchange.complete:
            self._next()
        elif exchange.keep:
            self.body_wanted(exchange)
        else:
            self._close()

    def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """Answer in the application's place, or break its begun answer off, and close."""
        if exchange.over:
            return
        begun = exchange.answered
        exchange.answered = True
        self._tell_lost(exchange)
        if begun:
            self._break_off(exchange)
        else:
            self._send_refusal(refusal, exchange)

    def abort(self, exchange: Exchange) -> None:
        """Close without finishing."""
        self._tell_lost(exchange)
        self._break_off(exchange)

    # ---- how it ends

    def _send_refusal(self, refusal: Refusal, exchange: Exchange | None) -> None:
        """Refuse a request, or None: what cannot be read as one."""
        self.server.on_refused(exchange, refusal.status)
        with_body = exchange is None or exchange.method != b"HEAD"
        lines = self.server.proof if exchange is None else exchange.proof
        self._transport.write(refusal_message(refusal, lines + self.server.date, with_body=with_body))
        self._close(read_away=exchange is None or not exchange.complete)

    def _break_off(self, exchange: Exchange) -> None:
        if exchange.body_kind is BodyFraming.UNTIL_CLOSE:
            # Only a reset tells this client that the end is not the end.
            reset(self._transport)
        self._close()

    def _close(self, *, read_away: bool = False) -> None:
        """Close once everything is sent; linger when the client may still be sending."""
        read_away = read_away or self._incoming is not None
        self.deaf = True
        self.in_head = False
        self._incoming = self._current = None
        self._waiting.clear()
        if self._transport.is_closing() or self._lingering:
            return
        self._watch_writing()
        if read_away:
            self._lingering = True
            self._deadline = self.server.now + self.limits.linger_s
            self._transport.write_eof()
            self._read_on()
        else:
            self._transport.close()

    def _watch_writing(self) -> None:
        self._unsent = self._transport.get_write_buffer_size() + unacknowledged(self._transport)
        self._write_deadline = self.server.now + self.limits.write_timeout_s

    def _pause_reading(self) -> None:
        if self.reading and not self._transport.is_closing():
            self.reading = False
            self._transport.pause_reading()

    def _read_on(self) -> None:
        if not self.reading and not self._transport.is_closing():
            self.reading = True
            self._transport.resume_reading()

    def drain(self) -> None:
        """The server is stopping: close when idle, else after the exchanges under way."""
        if self._current is None and not self._waiting and not self.in_head:
            self._close()
            return
        last = next((item for item in reversed(self._waiting) if isinstance(item, Exchange)), self._current)
        if last is not None:
            last.keep = False

    def kill(self) -> None:
        """Close at once, whatever is under way."""
        self._transport.abort()

    def sweep(self, now: float) -> None:
        """Look at the deadlines; called about every second."""
        if now >= self._write_deadline:
            before = self._unsent
            self._watch_writing()
            if self._unsent and self._unsent >= before:
                self._transport.abort()
                return
        if now < self._deadline:
            return
        self._deadline = NEVER
        if self._lingering:
            self._transport.close()
        elif self._current is not None:
            rate = (
                f" or came slower than {self.limits.min_body_rate} bytes a second" if self.limits.min_body_rate else ""
            )
            self.take_refusal(
                Refusal(408, f"The request body paused for more than {self.limits.body_timeout_s:g} s{rate}.")
            )
        elif self.in_head:
            self.take_refusal(Refusal(408, f"No complete request head within {self.limits.head_timeout_s:g} s."))
        else:
            self._close()
