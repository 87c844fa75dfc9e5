"""Forward one exchange to an origin, streaming both ways with back-pressure.

    client ──▶ Exchange ──(collect | stream)──▶ relay ──▶ Flight ──▶ origin
           ◀── Exchange ◀──(start, write, end)── relay ◀── Receiver ◀──

Which origin, under which target, with which headers of its own is the caller's decision, and so is what becomes of a
request whose origin cannot be reached (`unreachable`).

A body that is small is collected first, so that the request is one write, can be sent again on another connection
(REPEATABLE) or, before anything was sent, to another origin, and a slow client does not hold a function. A larger one,
or one of unknown length, is streamed; reading it begins when the connection to the origin is made, which is also when a
client that asked with `Expect: 100-continue` gets its go-ahead. Answers are always streamed; one that comes in one read
leaves in one write.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from holdfast.errors import AnswerTimedOut, ConnectFailed, ConnectionLost, PeerError
from holdfast.headers import HOP_BY_HOP, NOT_FORWARDED, RawHeaders, first, forwardable
from holdfast.http1.client import BodyFraming, ClientPool, Flight, Origin
from holdfast.http1.exchange import HOLD, Exchange
from holdfast.http1.message import header_lines, request_head, request_message

log = structlog.get_logger("holdfast.http1")

COLLECT_UP_TO = 65_536
# What `done` reports when the client left before its answer was complete; nginx's number for it.
CLIENT_LEFT = 499
REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
# RFC 9110, section 9.2.2: what may be sent again when a kept connection ends without a byte of an answer. The origin
# may have died in the middle of the request, and a POST that a caller sent once must not run twice.
NOT_ANSWERED = HOP_BY_HOP | {b"content-length"}
_TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"


def relay(
    exchange: Exchange,
    pool: ClientPool,
    origin: Origin,
    *,
    target: bytes,
    extra_headers: RawHeaders,
    answer_headers: RawHeaders,
    timeout_s: float | None,
    done: Callable[[int], None],
    unreachable: Callable[[PeerError], bool] | None = None,
    without: frozenset[bytes] = frozenset(),
) -> None:
    """Forward `exchange` to `origin` and its answer back. Returns at once. HOT: a small call costs about 50 µs in all.

    Args:
        exchange: Begun, neither read nor answered; or relayed before by a relay that was `unreachable`.
        pool: Makes or reuses the connection.
        origin: Where to.
        target: The request target there.
        extra_headers: Added to the request; the client's headers of the same names are dropped.
        answer_headers: Added to every answer, ours included; the origin's of the same names are dropped.
        timeout_s: From sending the request until the answer is complete; None: no limit.
        done: Called once, at the end, with the status the client was answered; 502 and 504 also when a begun answer
            broke off, 499 when the client left or its request broke off.
        unreachable: Called when no connection could be made, or it was closed before the answer began. True: the caller
            looks after the exchange from now on, and nothing more is called. After ConnectFailed it may relay it again.
        without: Lower-case names of further request headers that do not travel on.
    """
    _Relay(exchange, answer_headers, timeout_s, done, unreachable).begin(pool, origin, target, extra_headers, without)


class _Relay:
    """One relayed exchange. It is the reader of the request's body and the receiver of the answer."""

    __slots__ = (
        "_answer_headers",
        "_done",
        "_exchange",
        "_flight",
        "_head_came",
        "_over",
        "_status",
        "_timeout_s",
        "_unreachable",
    )

    def __init__(
        self,
        exchange: Exchange,
        answer_headers: RawHeaders,
        timeout_s: float | None,
        done: Callable[[int], None],
        unreachable: Callable[[PeerError], bool] | None,
    ) -> None:
        self._exchange = exchange
        self._answer_headers = answer_headers
        self._timeout_s = timeout_s
        self._done = done
        self._unreachable = unreachable
        self._flight: Flight | None = None
        self._status = 0
        self._head_came = False
        self._over = False

    def begin(
        self, pool: ClientPool, origin: Origin, target: bytes, extra_headers: RawHeaders, without: frozenset[bytes]
    ) -> None:
        """Send the request on, at once or when its small body is complete."""
        exchange = self._exchange
        exchange.on_gone(self._client_left)
        if self._over:
            return
        hidden = NOT_FORWARDED | without | {name.lower() for name, _ in extra_headers}
        headers = [(b"Host", origin.netloc), *forwardable(exchange.headers, hidden), *extra_headers]
        length = exchange.content_length

        def send(_exchange: Exchange, body: bytes) -> None:
            request = request_message(exchange.method, target, headers, body)
            again = exchange.method in REPEATABLE
            self._fly(pool.send(origin, request, self, timeout_s=self._timeout_s, replayable=again))

        if exchange.chunked or (length or 0) > COLLECT_UP_TO:
            framing = BodyFraming.CHUNKED if length is None else BodyFraming.LENGTH
            head = request_head(exchange.method, target, headers, length)
            flight = pool.send(origin, head, self, timeout_s=self._timeout_s, body=framing)
            self._fly(flight)
            flight.on_flow(exchange.pause_body, self._upload)
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
        self._head_came = True
        self._status = status
        hidden = NOT_ANSWERED | {name.lower() for name, _ in self._answer_headers}
        length = first(headers, b"content-length")
        passed = forwardable(headers, hidden) + self._answer_headers
        self._exchange.start(status, passed, None if length is None else int(length))

    def data(self, chunk: bytes) -> None:
        """More of the answer's body."""
        self._exchange.write(chunk)  # calls pause of the flight when the client does not take it as fast

    def end(self) -> None:
        """The answer is complete."""
        self._over = True
        self._exchange.end()
        self._done(self._status)

    def failed(self, error: PeerError) -> None:
        """The origin does not answer, or not to the end."""
        self._over = True
        if (
            not self._head_came
            and self._unreachable is not None
            and isinstance(error, ConnectFailed | ConnectionLost)
            and self._unreachable(error)
        ):
            return
        log.warning("relay failed", origin=error.origin, error=str(error), answer_begun=self._head_came)
        status = 504 if isinstance(error, AnswerTimedOut) else 502
        if self._head_came:
            self._exchange.abort()
        else:
            sentence = _sentence(error).encode()
            self._exchange.respond(status, _TEXT + header_lines(self._answer_headers), sentence + b"\n")
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
        case ConnectFailed():
            return "The server behind this path cannot be reached: try again shortly."
        case AnswerTimedOut():
            return f"The server behind this path did not answer within {error.timeout_s:g} s."
        case ConnectionLost():
            return "The server behind this path ended the connection before it answered."
        case _:
            return "The server behind this path did not answer in HTTP/1.1."
