"""One stream of a session, as a transport of asyncio: windows, half-close, reset."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.yamux.frames import DATA, FIN, RST, WINDOW, WINDOW_UPDATE

if TYPE_CHECKING:
    from holdfast.yamux.session import Session

MOST_FRAME = 65_536
# Of what one stream sends at a time, so that others come in between.
HIGH_WATER = 65_536
# More than this waiting to be sent, and a protocol is asked to pause; below a quarter of it, to go on.

log = logging.getLogger("holdfast.yamux")


class StreamRefused(ConnectionResetError):
    """The other side did not take the stream: nothing that was written to it has been looked at."""


class Stream(asyncio.Transport):
    """One connection of a session."""

    def __init__(self, session: Session, number: int, protocol: asyncio.Protocol, *, accepted: bool) -> None:
        super().__init__({"peername": ""})
        self.number = number
        self.accepted = accepted
        """Whether the other side is known to have taken it."""
        self._session = session
        self._protocol = protocol
        # Sending: what the other side still takes, and what waits for it.
        self._credit = WINDOW
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._write_paused = False
        self._ended = False  # write_eof, close
        self._fin_sent = False
        # Receiving: what it may still send, what was read of that and is not granted again, what waits to be read.
        self._granted = WINDOW
        self._read_bytes = 0
        self._reading = True
        self._held: deque[bytes] = deque()
        self._eof_held = False
        self._closing = False
        self._gone = False

    # ---- asyncio's transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send. HOT: what the window lets through leaves at the end of the loop's turn."""
        size = len(data)
        session = self._session
        if 0 < size <= MOST_FRAME and size <= self._credit and not (self._unsent or self._ended or session.congested):
            self._credit -= size
            session.send(DATA, 0, self.number, size, data)
        else:
            self._write_later(bytes(data))

    def _write_later(self, data: bytes) -> None:
        if self._ended or not data:
            return
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        self.send_on()
        if self._unsent_bytes > HIGH_WATER and not self._write_paused:
            self._write_paused = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        """Half-close once everything is sent."""
        if not self._ended:
            self._ended = True
            self.send_on()

    def can_write_eof(self) -> bool:
        """A stream can be half-closed."""
        return True

    def close(self) -> None:
        """Close once everything is sent."""
        if self._closing:
            return
        self._closing = True
        self._held.clear()
        self._ended = True
        self.send_on()

    def abort(self) -> None:
        """Close at once."""
        if self._gone:
            return
        self._closing = self._ended = True
        self._session.send(WINDOW_UPDATE, RST, self.number, 0)
        self._go(None)

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing

    def pause_reading(self) -> None:
        """Deliver nothing for now: the window bounds what comes meanwhile."""
        self._reading = False

    def resume_reading(self) -> None:
        """Deliver again, from the loop's next turn on."""
        if not self._reading:
            self._reading = True
            if self._held or self._eof_held:
                self._session.loop.call_soon(self._deliver_held)

    def is_reading(self) -> bool:
        """Whether what comes is delivered."""
        return self._reading and not self._closing

    def still_there(self) -> bool | None:
        """Whether the other side has not ended this stream, in all that has come by now; None: not all is read. HOT."""
        return not self.has_left() if self._session.is_read() else None

    def if_still_there(self, run: Callable[[], None]) -> None:
        """Where that is not known: call `run` once it is; a stream that the other side has ended is closed."""
        self._session.when_read(self, run)

    def has_left(self) -> bool:
        """Whether the other side has ended its sending, whether or not the protocol was told yet."""
        return self._closing or self._eof_held

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the window or for the socket."""
        return self._unsent_bytes

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol."""
        return self._protocol

    # ---- sending, called by the session as well

    def send_on(self) -> None:
        """Send what window and socket let through; at the end, what ends it."""
        session = self._session
        while self._unsent and self._credit:
            if session.congested:
                session.wait(self)
                break
            data = self._unsent.popleft()
            size = min(len(data), self._credit, MOST_FRAME)
            if size < len(data):
                self._unsent.appendleft(data[size:])
                data = data[:size]
            self._credit -= size
            self._unsent_bytes -= size
            session.send(DATA, 0, self.number, size, data)
        if self._write_paused and self._unsent_bytes <= HIGH_WATER // 4:
            self._write_paused = False
            self._protocol.resume_writing()
        if self._ended and not self._unsent and not self._gone:
            if not self._fin_sent:
                self._fin_sent = True
                session.send(WINDOW_UPDATE, FIN, self.number, 0)
            if self._closing:
                self._go(None)

    def grant(self, delta: int) -> None:
        """The other side takes so many bytes more."""
        self._credit += delta
        if self._unsent:
            self.send_on()

    # ---- receiving, called by the session

    def expects(self, size: int) -> bool:
        """Count a frame of data; False: it is more than the window."""
        self._granted -= size
        return self._granted >= 0

    def take(self, data: bytes) -> None:
        """The next bytes. HOT."""
        if self._reading and not (self._held or self._closing):
            self._deliver(data)
        elif self._closing:
            self._grant(len(data))  # nobody reads them, and the other side may have to send them to come to its end
        else:
            self._held.append(data)

    def take_eof(self) -> None:
        """The other side sends no more."""
        if self._closing:
            return
        if self._held or not self._reading:
            self._eof_held = True
        elif not self._protocol.eof_received():
            # What the window holds back will not be asked for any more.
            if self._unsent:
                self.abort()
            else:
                self.close()

    def _deliver_held(self) -> None:
        while self._held and self._reading and not self._closing:
            self._deliver(self._held.popleft())
        if self._eof_held and self._reading and not self._held and not self._closing:
            self._eof_held = False
            self.take_eof()

    def _deliver(self, data: bytes) -> None:
        self._grant(len(data))
        try:
            self._protocol.data_received(data)
        except Exception:
            log.exception("a protocol failed on what it received")
            self.abort()

    def _grant(self, size: int) -> None:
        self._read_bytes += size
        if self._read_bytes >= WINDOW // 2:
            self._session.send(WINDOW_UPDATE, 0, self.number, self._read_bytes)
            self._granted += self._read_bytes
            self._read_bytes = 0

    def lost(self, error: Exception | None) -> None:
        """It was reset, or the session has ended."""
        if not self._gone:
            self._closing = self._ended = True
            self._go(error)

    def _go(self, error: Exception | None) -> None:
        self._gone = True
        self._unsent.clear()
        self._unsent_bytes = 0
        self._held.clear()
        self._session.forget(self)
        # As asyncio's transports do: never from within a call of the protocol's own.
        self._session.loop.call_soon(self._protocol.connection_lost, error)
