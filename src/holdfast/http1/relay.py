"""Forward one exchange to an origin, streaming both ways with back-pressure.

    client ──▶ Exchange ──(collect | stream)──▶ relay ──▶ Flight ──▶ origin
           ◀── Exchange ◀──(start, write, end)── relay ◀── Receiver ◀──

Which origin, under which target, with which headers of its own is the caller's decision, and so is what becomes of a
request whose origin cannot be reached (`unreachable`).

A body that is small is collected first, so that the request is one write, can be sent again on another connection
(REPEATABLE) or, before anything was sent, to another origin, and a slow client does not hold a function. A larger one,
or one of unknown length, is streamed; reading it begins when the connection to the origin is made, which is also when a
client that asked with `Expect: 100-continue` gets its go-ahead. An answer that comes in one read is passed on as a
whole, framed by its length; any other is streamed as it comes.

Nothing is sent for a client that has left: right before, all is read that it has sent (`Exchange.if_still_there`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

import structlog

from holdfast.errors import AnswerTimedOut, ConnectFailed, ConnectionLost, PeerError, WrongPeer
from holdfast.headers import HOP_BY_HOP, NOT_FORWARDED, RawHeaders, first
from holdfast.http1.client import BodyFraming, ClientPool, Flight, Origin, Receiver
from holdfast.http1.exchange import HOLD, Exchange
from holdfast.http1.framing import BODILESS
from holdfast.http1.message import forwarded_lines, is_dated, length_line, message_of_lines

log = structlog.get_logger("holdfast.http1")

COLLECT_UP_TO = 65_536
# What `done` reports when the client left before its answer was complete; nginx's number for it.
CLIENT_LEFT = 499
REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
# RFC 9110, section 9.2.2: what may be sent again when a kept connection ends without a byte of an answer. The origin
# may have died in the middle of the request, and a POST that a caller sent once must not run twice.
NOT_ANSWERED = HOP_BY_HOP | {b"content-length"}
_TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"


class Dropped(NamedTuple):
    """The lower-case names of headers that are not passed on; those of the lines that are added must be among them."""

    of_request: frozenset[bytes] = NOT_FORWARDED
    of_answer: frozenset[bytes] = NOT_ANSWERED

    @classmethod
    def besides(cls, of_request: Iterable[bytes], of_answer: Iterable[bytes]) -> Self:
        """Those of each hop, and these."""
        return cls(
            NOT_FORWARDED | {name.lower() for name in of_request}, NOT_ANSWERED | {name.lower() for name in of_answer}
        )


def relay(
    exchange: Exchange,
    pool: ClientPool,
    origin: Origin,
    *,
    target: bytes,
    dropped: Dropped,
    request_lines: bytes,
    answer_lines: bytes,
    timeout_s: float | None,
    done: Callable[[int], None],
    unreachable: Callable[[PeerError], bool] | None = None,
) -> None:
    """Forward `exchange` to `origin` and its answer back. Returns at once. HOT: 20 µs for a small call.

    Args:
        exchange: Begun, neither read nor answered; or relayed before by a relay that was `unreachable`.
        pool: Makes or reuses the connection.
        origin: Where to.
        target: The request target there.
        dropped: What is not passed on.
        request_lines: Header lines added to the request: made by `header_lines`, or of values without a line end.
        answer_lines: The same for every answer, ours included.
        timeout_s: From sending the request until the answer is complete; None: no limit.
        done: Called once, at the end, with the status the client was answered; 502 and 504 also when a begun answer
            broke off, 499 when the client left or its request broke off.
        unreachable: Called when no connection could be made, it was closed before the answer began, or another program
            answered. True: the caller looks after the exchange from now on, and nothing more is called. It may relay it
            again after ConnectFailed, and after WrongPeer unless the body was streamed.
    """
    answering = _Relay(exchange, dropped.of_answer, answer_lines, timeout_s, done=done, unreachable=unreachable)
    answering.begin(pool, origin, target, dropped.of_request, request_lines)


class _Relay(Receiver):
    """One relayed exchange. It is the reader of the request's body and the receiver of the answer."""

    __slots__ = (
        "_added",
        "_begun",
        "_done",
        "_dropped",
        "_exchange",
        "_flight",
        "_headers",
        "_over",
        "_parts",
        "_status",
        "_timeout_s",
        "_unreachable",
    )

    def __init__(
        self,
        exchange: Exchange,
        dropped: frozenset[bytes],
        added: bytes,
        timeout_s: float | None,
        *,
        done: Callable[[int], None],
        unreachable: Callable[[PeerError], bool] | None,
    ) -> None:
        self._exchange = exchange
        self._dropped = dropped
        self._added = added
        self._timeout_s = timeout_s
        self._done = done
        self._unreachable = unreachable
        self._flight: Flight | None = None
        self._status = 0
        self._headers: RawHeaders = []
        self._parts: list[bytes] = []
        # Whether the answer is being streamed: until then what came of it is in the three above.
        self._begun = False
        self._over = False

    def begin(self, pool: ClientPool, origin: Origin, target: bytes, dropped: frozenset[bytes], added: bytes) -> None:
        """Send the request on, at once or when its small body is complete."""
        exchange = self._exchange
        exchange.on_gone(self._client_left)
        if self._over:
            return
        lines = origin.lines + forwarded_lines(exchange.headers, dropped) + added
        length = exchange.content_length

        def send(_exchange: Exchange, body: bytes) -> None:
            method = exchange.method
            request = message_of_lines(method, target, lines + length_line(method, body), body)
            again = method in REPEATABLE
            exchange.if_still_there(
                lambda: self._fly(pool.send(origin, request, self, timeout_s=self._timeout_s, replayable=again))
            )

        def send_head() -> None:
            framing, kind = b"Transfer-Encoding: chunked\r\n", BodyFraming.CHUNKED
            if length is not None:
                framing, kind = b"Content-Length: %d\r\n" % length, BodyFraming.LENGTH
            head = message_of_lines(exchange.method, target, lines + framing)
            flight = pool.send(origin, head, self, timeout_s=self._timeout_s, body=kind)
            self._fly(flight)
            flight.on_flow(exchange.pause_body, self._upload)

        if exchange.chunked or (length or 0) > COLLECT_UP_TO:
            exchange.if_still_there(send_head)
        else:
            exchange.collect(COLLECT_UP_TO, send)

    def _fly(self, flight: Flight) -> None:
        self._flight = flight
        self._exchange.on_flow(flight.pause, flight.resume)

    # ---- the request's body, when it is streamed

    def _upload(self) -> None:
        """The connection to the origin is made, or takes more."""
        if self._exchange.mode == HOLD:
            self._exchange.stream(self)
        else:
            self._exchange.resume_body()

    def body_data(self, data: bytes) -> None:
        """More of the request's body."""
        if self._flight is not None:
            self._flight.write(data)  # calls pause_body when the origin does not take it as fast

    def body_end(self) -> None:
        """The request's body is complete."""
        if self._flight is not None:
            self._flight.end_body()

    def body_lost(self) -> None:
        """The client left while sending; on_gone says so too."""

    # ---- the answer

    def head(self, status: int, headers: RawHeaders) -> None:
        """The origin begins to answer."""
        self._status = status
        self._headers = headers

    def data(self, chunk: bytes) -> None:
        """More of the answer's body."""
        if self._begun:
            self._exchange.write(chunk)  # calls pause of the flight when the client does not take it as fast
        else:
            self._parts.append(chunk)

    def more_to_come(self) -> None:
        """What has come is passed on, and the rest as it comes."""
        if self._status and not self._begun:
            self._stream()

    def _stream(self) -> None:
        self._begun = True
        length, lines = first(self._headers, b"content-length"), self._answer_lines()
        self._exchange.start(self._status, lines, None if length is None else int(length), dated=is_dated(lines))
        for part in self._parts:
            self._exchange.write(part)
        self._parts = []

    def _answer_lines(self) -> bytes:
        return forwarded_lines(self._headers, self._dropped) + self._added

    def end(self) -> None:
        """The answer is complete. HOT when it came as a whole."""
        self._over = True
        exchange = self._exchange
        if not self._begun and exchange.method != b"HEAD" and self._status not in BODILESS:
            lines = self._answer_lines()
            exchange.respond(self._status, lines, b"".join(self._parts), dated=is_dated(lines))
        else:
            if not self._begun:
                self._stream()
            exchange.end()
        self._done(self._status)

    def failed(self, error: PeerError) -> None:
        """The origin does not answer, or not to the end."""
        self._over = True
        if (
            not self._status
            and self._unreachable is not None
            and isinstance(error, ConnectFailed | ConnectionLost | WrongPeer)
            and self._unreachable(error)
        ):
            return
        log.warning("relay failed", origin=error.origin, error=str(error), answer_begun=self._begun)
        status = 504 if isinstance(error, AnswerTimedOut) else 502
        if self._begun:
            self._exchange.abort()
        else:
            sentence = _sentence(error).encode()
            self._exchange.respond(status, _TEXT + self._added, sentence + b"\n")
        self._done(status)

    def _client_left(self) -> None:
        if self._over:
            return
        self._over = True
        if self._flight is not None:
            self._flight.cancel()
        self._done(CLIENT_LEFT)


def _sentence(error: PeerError) -> str:
    """What the client is told: not where the origin is, which is nobody's business outside."""
    match error:
        case ConnectFailed() | WrongPeer():
            return "The server behind this path cannot be reached: try again shortly."
        case AnswerTimedOut():
            return f"The server behind this path did not answer within {error.timeout_s:g} s."
        case ConnectionLost():
            return "The server behind this path ended the connection before it answered."
        case _:
            return "The server behind this path did not answer in HTTP/1.1."
