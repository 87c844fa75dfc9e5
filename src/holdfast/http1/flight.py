"""One request on its way and its answer, as the caller of the pool sees them.

A flight outlives connections: it waits for one, and may move to a fresh one when a kept one turns out closed. Which
connection it gets is the pool's decision (client.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from holdfast.errors import PeerError
from holdfast.headers import RawHeaders
from holdfast.http1.framing import BodyFraming
from holdfast.http1.origin import Origin
from holdfast.unexpected import Work, set_aside

if TYPE_CHECKING:
    from holdfast.http1.client_connection import ClientConnection

log = structlog.get_logger("holdfast.http1")


class Receiver(Protocol):
    """Takes an answer as it comes. Exactly one of `end` and `failed` is called, last, never within `send`."""

    __slots__ = ()

    def head(self, status: int, headers: RawHeaders) -> None:
        """The head of the final answer; called at most once."""

    def data(self, chunk: bytes) -> None:
        """The next bytes of the body, never empty."""

    def more_to_come(self) -> None:
        """What came so far has been handed over, and it is not the whole answer. Most need not know."""
        return

    def end(self) -> None:
        """The answer is complete, and the connection may already carry the next request."""

    def failed(self, error: PeerError) -> None:
        """No complete answer will come."""


class Flight:
    """One request on its way. Made by `ClientPool.send`."""

    __slots__ = (
        "_on_pause",
        "_on_resume",
        "body_due",
        "connecting",
        "connection",
        "deadline",
        "framing",
        "origin",
        "over",
        "read_paused",
        "receiver",
        "replayable",
        "request",
        "timeout_s",
    )

    def __init__(
        self,
        origin: Origin,
        request: bytes,
        receiver: Receiver,
        *,
        timeout_s: float | None,
        deadline: float,
        replayable: bool,
        framing: BodyFraming,
    ) -> None:
        self.origin = origin
        self.request = request
        self.receiver = receiver
        self.timeout_s = timeout_s
        self.deadline = deadline
        self.replayable = replayable
        self.framing = framing
        self.over: bool = False
        """The receiver hears nothing more."""
        self.body_due: bool = framing is not BodyFraming.NONE
        """A streamed body is not complete yet: the connection cannot be used again."""
        self.read_paused: bool = False
        self.connection: ClientConnection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self._on_pause: Callable[[], None] | None = None
        self._on_resume: Callable[[], None] | None = None

    # ---- the request's body, when it is streamed

    def write(self, data: bytes) -> bool:
        """Send the next bytes of the body. False: the peer reads slowly, wait for `resume` of `on_flow`.

        Ignored once the flight is over: a peer may answer before it has read everything.
        """
        if self.over or not data:
            return True
        if not self.body_due or self.connection is None:
            raise RuntimeError("the body of this request is complete, or its connection is not made yet")
        if self.framing is BodyFraming.CHUNKED:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        return self.connection.write(data)

    def end_body(self) -> None:
        """The body is complete."""
        if self.over or not self.body_due or self.connection is None:
            return
        self.body_due = False
        if self.framing is BodyFraming.CHUNKED:
            self.connection.write(b"0\r\n\r\n")

    def on_flow(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Call `pause` when the peer does not take the body as fast as it comes, `resume` when it does again.

        The first `resume` says that the connection is made: nothing can be written before it.
        """
        self._on_pause = pause
        self._on_resume = resume

    # ---- the answer

    def pause(self) -> None:
        """Read no more of the answer; bytes that are read already (256 KiB at most) still come."""
        self.read_paused = True
        if self.connection is not None:
            self.connection.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self.read_paused = False
        if self.connection is not None:
            self.connection.resume_reading()

    def cancel(self) -> None:
        """Give up: the connection closes at once, the receiver hears nothing more. Nothing happens once it is over."""
        if self.over:
            return
        connection, connecting = self.connection, self.connecting
        self._finish()
        if connection is not None:
            connection.drop()
        if connecting is not None:
            connecting.cancel()

    # ---- called by the pool and the connection

    def board(self, connection: ClientConnection) -> None:
        """Send the request on this connection. HOT."""
        self.connection = connection
        connection.write(self.request)
        if self.read_paused:
            connection.pause_reading()
        if self.body_due:
            self.flow(paused=False)

    def flow(self, *, paused: bool) -> None:
        """The socket's write buffer has filled or emptied."""
        callback = self._on_pause if paused else self._on_resume
        if callback is not None:
            callback()

    def end(self) -> None:
        """The answer is complete. HOT."""
        receiver = self.receiver
        self._finish()
        try:
            receiver.end()
        except Exception as failed:  # noqa: BLE001 - one answer must not cost the others
            set_aside(Work.ASKING, failed)

    def fail(self, error: PeerError) -> None:
        """No answer will come."""
        if self.over:
            return
        receiver = self.receiver
        self._finish()
        try:
            receiver.failed(error)
        except Exception as failed:  # noqa: BLE001 - one answer must not cost the others
            set_aside(Work.ASKING, failed)

    def _finish(self) -> None:
        self.over = True
        # A caller may keep its flight: let go of everything large.
        self.connection = self.connecting = self._on_pause = self._on_resume = None
        self.request = b""
        # Receivers hold their flights: a cycle that would wait for the garbage collector.
        del self.receiver
