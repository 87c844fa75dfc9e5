"""One request and its answer, as the application sees them.

An exchange turns what the application asks for (collect the body, stream it, answer) into bytes for the connection
and calls for the application. Sockets, timers and the order of pipelined exchanges are the connection's
(connection.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from holdfast.headers import RawHeaders
from holdfast.http1.framing import (
    BODILESS,
    CLOSE,
    KEEP_ALIVE,
    BodyFraming,
    answer_framing,
    bodies_too_large,
    body_too_large,
    framing_line,
)
from holdfast.http1.lane import Lane
from holdfast.http1.message import status_line

# What happens to body bytes that arrive: kept until the application says what it wants, kept for collect, handed to a
# reader, thrown away. Plain integers, because they are compared for every request.
HOLD, COLLECT, STREAM, DISCARD = range(4)

# Up to here head and body are joined into one write; beyond it copying costs more than a second entry in the write
# queue.
JOIN_BELOW = 65_536


class Application(Protocol):
    """Whoever answers. Called on the event loop; an exception is logged and answered 500."""

    def begin(self, exchange: Exchange) -> None:
        """Called once for each request when its head is complete; must answer, now or later."""


class BodyReader(Protocol):
    """Takes a request body as it comes.

    Exactly one of body_end and body_lost is called, last; neither once the answer is complete.
    """

    def body_data(self, data: bytes) -> None:
        """The next bytes, never empty."""

    def body_end(self) -> None:
        """The body is complete."""

    def body_lost(self) -> None:
        """The rest will never come: the client left, was too slow, or broke the protocol."""


class Exchange:
    """One request and the means to answer it.

    The application first says what it wants of the body (`collect` or `stream`, at most one of them), then answers with
    `respond`, or with `start`, `write` and `end`. Answering without asking for the body is fine. When the client has
    gone or the lane has answered in the application's place, all of these do nothing: `on_gone` tells.
    """

    __slots__ = (
        "_expects",
        "_lane",
        "_on_gone",
        "_on_pause",
        "_on_resume",
        "_pending",
        "_pending_bytes",
        "_proof",
        "_unsent",
        "answered",
        "body_kind",
        "chunked",
        "client_host",
        "complete",
        "content_length",
        "done",
        "header",
        "headers",
        "held",
        "keep",
        "limit",
        "lost",
        "method",
        "mode",
        "over",
        "parts",
        "paused_at",
        "reader",
        "received",
        "since",
        "steady",
        "target",
        "version",
    )

    def __init__(
        self,
        lane: Lane,
        method: bytes,
        target: bytes,
        headers: RawHeaders,
        fields: dict[bytes, bytes],
        *,
        version: str,
        keep: bool,
    ) -> None:
        self.method = method
        self.target = target
        """As sent; of a target in absolute form the path and query."""
        self.headers = headers
        """In order, duplicates and spelling kept, white space around values removed."""
        self.version = version
        """`1.1` or `1.0`."""
        self.client_host: str = lane.client_host
        """The address of the socket's other end; empty for sockets that have none."""
        length = fields.get(b"content-length")
        self.content_length: int | None = None if length is None else int(length)
        self.chunked: bool = b"transfer-encoding" in fields
        self.answered: bool = False
        """Whether an answer was begun, by whomever."""
        self.header: Callable[[bytes], bytes | None] = fields.get
        """The first value of a header, by its lower-case name; None when it is absent. HOT: the dictionary's own."""
        self._lane = lane
        self._expects: bool = b"expect" in fields and version == "1.1"
        self._proof = b""
        self._pending: list[bytes] | None = None
        self.body_kind: BodyFraming | None = None
        self._on_gone: Callable[[], None] | None = None
        self._on_pause: Callable[[], None] | None = None
        self._on_resume: Callable[[], None] | None = None
        # The lane's: how far the body is, and what becomes of it.
        self.mode = HOLD
        self.parts: list[bytes] = []
        self.received = 0
        self.held = 0
        # When the application was told of the request, by the server's clock.
        self.since = 0.0
        # When the application paused it, by the same clock; 0: it did not.
        self.paused_at = 0.0
        # Whether the body must come at some rate.
        self.steady: bool = False
        self.limit: float = float("inf")
        self.done: Callable[[Exchange, bytes], None] | None = None
        self.reader: BodyReader | None = None
        self.complete: bool = False
        self.keep = keep
        # Nothing more can be sent: the answer is complete or nobody waits for it; `lost` is the second.
        self.over: bool = False
        self.lost: bool = False

    # ---- the body

    def collect(self, limit: int, done: Callable[[Exchange, bytes], None]) -> None:
        """Call `done` with the whole body, at once when it is there already.

        A body over `limit` bytes, declared or as it arrives, is answered 413 by the lane and the connection closed;
        then, and when the client leaves early, `done` is never called. May be called again: the body is kept.
        """
        if self.mode != COLLECT:
            self._choose(COLLECT)
            self.steady = True
        if self.over or not self._within(limit):
            return
        # Counted at once when its length is known, else as it comes.
        size = self.content_length or self.received
        if size and not self.held and not self.keep_in_memory(size):
            return
        self.done = done
        if self.complete:
            self._lane.deliver(self)
        elif self._expects or not self._lane.reading:
            self._continue()

    def stream(self, reader: BodyReader, limit: float = float("inf"), *, steady: bool = False) -> None:
        """Hand the body to `reader` as it comes, what has come already at once.

        A body over `limit` bytes is answered 413 by the lane, or a begun answer broken off; the reader hears body_lost.
        `steady`: it must come at the rate of a collected one. What the reader keeps it counts by `keep_in_memory`.
        """
        self._choose(STREAM)
        self.reader = reader
        self.steady = steady
        if self.over:
            reader.body_lost()
            return
        if not self._within(limit):
            return
        parts, self.parts = self.parts, []
        for part in parts:
            reader.body_data(part)
            if self.reader is not reader:
                return  # it answered or aborted
        if self.complete:
            reader.body_end()
        elif self._expects or not self._lane.reading:
            self._continue()

    def pause_body(self) -> None:
        """Read no more from the socket; bytes that are read already (256 KiB at most) still come."""
        if not (self.over or self.complete):
            self._lane.pause_body(self)

    def resume_body(self) -> None:
        """Read again."""
        if not (self.over or self.complete):
            self._lane.body_wanted(self)

    def _choose(self, mode: int) -> None:
        if self.mode != HOLD:
            raise RuntimeError("the body of a request can be asked for once, and before the answer")
        self.mode = mode

    def _within(self, limit: float) -> bool:
        self.limit = limit
        if self.received > limit or (self.content_length or 0) > limit:
            self._lane.refuse(self, body_too_large(int(limit)))
            return False
        return True

    def _continue(self) -> None:
        if self._expects and not self.received and not self.answered:
            self._lane.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._expects = False
        self._lane.body_wanted(self)

    def if_still_there(self, run: Callable[[], None]) -> None:
        """Call `run`, now or soon, unless the client has left: for what must not be done for nobody.

        All that the client had sent until now is read before, its leaving included. `run` is not called once the
        exchange is over; `on_gone` is then, as ever. One that has ended its sending has left, see connection.py.
        """
        if not self.over:
            self._lane.if_still_there(self, run)

    # ---- the answer

    @property
    def proof(self) -> bytes:
        """The header lines that say who answers, if this answer has to."""
        return self._proof

    def prove(self, lines: bytes) -> None:
        """Say by these header lines, before all others, who answers: once on each connection, which changes no more.

        HOT: 0.05 µs.
        """
        if not self._lane.proven:
            self._lane.proven = True
            self._proof = lines

    def respond(self, status: int, headers: bytes = b"", body: bytes = b"", *, dated: bool = False) -> None:
        """Send the whole answer. HOT: one write.

        `headers` are lines made by `header_lines`, without Content-Length, Transfer-Encoding and Connection, which the
        lane adds, and so it does with Date unless they are `dated`.
        """
        if self.answered or self.over:
            self._answered_before()
            return
        self.answered = True
        lane = self._lane
        if not self.complete:
            self._leave_body()
        if status in BODILESS:
            length = body = b""
        else:
            length = b"Content-Length: %d\r\n" % len(body)
            if self.method == b"HEAD":
                body = b""
        connection = b"" if self.keep and self.version == "1.1" else self._connection_line()
        date = b"" if dated else lane.date
        if len(body) < JOIN_BELOW:
            lane.write(
                b"%b%b%b%b%b%b\r\n%b" % (status_line(status), self._proof, headers, length, date, connection, body),
            )
        else:
            lane.write(b"%b%b%b%b%b%b\r\n" % (status_line(status), self._proof, headers, length, date, connection))
            lane.write(body)
        self._finish()

    def start(self, status: int, headers: bytes, length: int | None, *, dated: bool = False) -> None:
        """Begin a streamed answer of `length` bytes, or of unknown length (None); `headers` as for `respond`.

        The head waits for the first `write` or `end` of the same turn of the loop, so that a short answer is one write.
        """
        if self.answered or self.over:
            self._answered_before()
            return
        self.answered = True
        if not self.complete and self.mode == HOLD:
            self._leave_body()
        kind = self.body_kind = answer_framing(self.method, self.version, status, length)
        self._unsent = length or 0
        if kind is BodyFraming.UNTIL_CLOSE:
            self.keep = False
        head = b"%b%b%b%b%b%b\r\n" % (
            status_line(status),
            self._proof,
            headers,
            framing_line(kind, status, length),
            b"" if dated else self._lane.date,
            self._connection_line(),
        )
        self._pending = [head]
        self._pending_bytes = len(head)
        self._lane.loop.call_soon(self._flush)

    def write(self, data: bytes) -> bool:
        """Send a piece of a started answer. False: the client reads slowly, wait for `resume` of `on_flow`."""
        if self.over:
            return False
        if self.body_kind is None:
            raise RuntimeError("an answer begins with its head")
        if not data or self.body_kind is BodyFraming.NONE:
            return True
        if self.body_kind is BodyFraming.CHUNKED:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif self.body_kind is BodyFraming.LENGTH:
            self._unsent -= len(data)
            if self._unsent < 0:
                raise ValueError("the answer is longer than its announced length")
        if self._pending is not None:
            self._pending.append(data)
            self._pending_bytes += len(data)
            return True if self._pending_bytes < JOIN_BELOW else self._flush()
        return self._lane.write(data)

    def end(self) -> None:
        """The answer is complete. One that is shorter than announced is aborted, so that nobody takes it for whole."""
        if self.over:
            return
        if self.body_kind is BodyFraming.LENGTH and self._unsent:
            self.abort()
            return
        last = b"0\r\n\r\n" if self.body_kind is BodyFraming.CHUNKED else b""
        if self._pending is not None:
            self._pending.append(last)
            self._flush()
        elif last:
            self._lane.write(last)
        self._finish()

    def abort(self) -> None:
        """Close the connection without finishing, so that the client notices that the answer broke off."""
        if not self.over:
            self._flush()
            self._lane.abort(self)

    def on_flow(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Call `pause` when the client does not take the answer as fast as it comes, `resume` when it does again."""
        self._on_pause = pause
        self._on_resume = resume

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call back once when nobody waits for the application's answer any more.

        The client disconnected before the answer was complete, or the lane itself answered (a body too large, too
        slow or not HTTP). Called at once when that has happened already.
        """
        if self.lost:
            callback()
        elif not self.over:
            self._on_gone = callback

    def _answered_before(self) -> None:
        if not self.lost:
            raise RuntimeError("a request can be answered once")

    def _flush(self) -> bool:
        pending, self._pending = self._pending, None
        if pending is None or self.over:
            return True
        return self._lane.write(pending[0] if len(pending) == 1 else b"".join(pending))

    def _leave_body(self) -> None:
        """The answer comes before the end of an unwanted body: read the rest away, or close after the answer."""
        if self._expects or not self._lane.may_drain(self):
            # A client that expects 100 may or may not send its body after the answer: where the next request begins
            # is unknown.
            self.keep = False
        self._drop_body()

    def _drop_body(self) -> None:
        self.mode = DISCARD
        self.parts = []
        self.reader = None
        self.done = None

    def _connection_line(self) -> bytes:
        if not self.keep:
            return CLOSE
        return b"" if self.version == "1.1" else KEEP_ALIVE

    def _finish(self) -> None:
        self.over = True
        if self.held:
            self.let_go()
        self._on_gone = self._on_pause = self._on_resume = None
        if not self.complete and self.mode != DISCARD:
            # A streamed answer ended while its request was still coming: too late to announce anything.
            self.keep = self.keep and self._lane.may_drain(self)
            self._drop_body()
        self._lane.answer_finished(self)

    # ---- what is kept of the body

    def keep_in_memory(self, size: int) -> bool:
        """Count bytes of the body that are kept until the answer is complete; False: they were one too many."""
        if not self._lane.hold(size):
            self._lane.refuse(self, bodies_too_large(self._lane.limits.max_held_bytes))
            return False
        self.held += size
        return True

    def forget_body(self) -> None:
        """Do not keep a collected body for another `collect`: its receiver has it. It counts as held all the same."""
        self.parts = []

    def let_go(self) -> None:
        """Nothing of the body is kept any more, though the answer is not complete."""
        if self.held:
            self._lane.let_go(self.held)
            self.held = 0

    # ---- called by the lane

    def flow(self, *, paused: bool) -> None:
        """The socket's write buffer has filled or emptied."""
        callback = self._on_pause if paused else self._on_resume
        if callback is not None:
            callback()

    def leave(self) -> None:
        """Nobody waits for the application's answer any more."""
        if self.over:
            return
        self.over = self.lost = True
        if self.held:
            self.let_go()
        reader, self.reader = self.reader, None
        callback, self._on_gone = self._on_gone, None
        self._on_pause = self._on_resume = self.done = None
        self.parts = []
        if reader is not None and not self.complete:
            reader.body_lost()
        if callback is not None:
            callback()
