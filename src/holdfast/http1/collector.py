"""An answer, collected from the pieces of a flight: all of it, or its head."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from holdfast.errors import AnswerTooLarge, PeerError
from holdfast.headers import RawHeaders
from holdfast.http1.flight import Flight, Receiver
from holdfast.http1.origin import Origin


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: RawHeaders
    body: bytes


class Collector(Receiver):
    """Collects an answer and resolves `future` with it. One of more than `max_body_bytes` is given up: `exceeded`."""

    __slots__ = ("_future", "_headers", "_max_body_bytes", "_parts", "_size", "_status", "flight", "origin")

    def __init__(self, future: asyncio.Future[Answer], max_body_bytes: int, origin: Origin) -> None:
        self.flight: Flight | None = None
        self._future = future
        self._max_body_bytes = max_body_bytes
        self.origin = origin
        self._status = 0
        self._headers: RawHeaders = []
        self._parts: list[bytes] = []
        self._size = 0

    # ---- the flight

    def head(self, status: int, headers: RawHeaders) -> None:
        """The head of the answer."""
        self._status = status
        self._headers = headers

    def data(self, chunk: bytes) -> None:
        """More of its body."""
        self._size += len(chunk)
        if self._size > self._max_body_bytes:
            self.exceeded(chunk)
        else:
            self._parts.append(chunk)

    def end(self) -> None:
        """It is complete."""
        if not self._future.done():
            parts = self._parts
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._future.set_result(Answer(self._status, self._headers, body))

    def failed(self, error: PeerError) -> None:
        """It will never be."""
        if not self._future.done():
            self._future.set_exception(error)

    def exceeded(self, _chunk: bytes) -> None:
        """Called with the piece that is too much, and with every later one."""
        if self.flight is not None:
            self.flight.cancel()
        self.failed(AnswerTooLarge(str(self.origin), self._max_body_bytes))


class HeadCollector(Receiver):
    """Resolves `future` with the head of an answer once it is there: what follows changes nothing any more.

    The body is read, so that the connection can be used again, and thrown away; one of more than `max_body_bytes` ends
    the connection. `on_over` is called once, when the flight is over, which may be long after its head: with the error,
    or None when there is none.
    """

    __slots__ = ("_future", "_left", "_on_over", "flight", "origin")

    def __init__(
        self,
        future: asyncio.Future[Answer],
        max_body_bytes: int,
        origin: Origin,
        on_over: Callable[[PeerError | None], None],
    ) -> None:
        self.flight: Flight | None = None
        self.origin = origin
        self._future = future
        self._left = max_body_bytes
        self._on_over = on_over

    # ---- the flight

    def head(self, status: int, headers: RawHeaders) -> None:
        """The head of the answer."""
        if not self._future.done():
            self._future.set_result(Answer(status, headers, b""))

    def data(self, chunk: bytes) -> None:
        """More of its body."""
        self._left -= len(chunk)
        if self._left < 0:
            self.cancel()

    def end(self) -> None:
        """It is complete."""
        self._on_over(None)

    def failed(self, error: PeerError) -> None:
        """It will never be."""
        if not self._future.done():
            self._future.set_exception(error)
        self._on_over(error)

    def cancel(self) -> None:
        """Give up: the connection closes. Nothing happens once the flight is over."""
        if self.flight is not None and not self.flight.over:
            self.flight.cancel()
            self._on_over(None)
