"""Many connections over one socket: sessions and streams of yamux, version 0, as transports and protocols of asyncio.

Between two processes of one machine a message that fits in one read costs more in the kernel, and in the event loop,
than what is done with it. Streams share a socket: all that a turn of the loop writes to them leaves in one write, and
arrives in one read, by which the other side is woken once.

Source: the specification in the repository hashicorp/yamux, spec.md. Each stream has a window of 256 KiB, so that one
whose reader is slow holds up no other. What is left out: the accepting side opens no streams, and no pings are sent.

Knows nothing of HTTP; the protocols of http1 do not know that their transport is a stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import cast

HEADER = Struct(">BBHII")
# Version, type, flags, stream id, length.
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
NORMAL, PROTOCOL_ERROR = 0, 1

WINDOW = 262_144
MOST_FRAME = 65_536
# Of what one stream sends at a time, so that others come in between.
MOST_AT_ONCE = 262_144
# Of what all streams send in one turn of the loop: the rest waits in the streams, not for the socket.
MOST_PARTS = 48
# Of frames that wait for the end of the turn, a header and its data being two: with two dozen small messages the other
# side has something to do while the rest is made.
HIGH_WATER = 65_536
# More than this waiting to be sent, and a protocol is asked to pause; below a quarter of it, to go on.
MOST_UNREAD = 4 * 1024 * 1024
# A peer that sends frames and reads no answers to them is left; our own data waits in the streams.
LAST_ID = 2**31 - 1

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
        self._read_bytes += len(data)
        if self._read_bytes >= WINDOW // 2:
            self._grant(0)
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


class Session(asyncio.Protocol):
    """The protocol of the shared socket.

    Args:
        accept: Makes the protocol of a stream that the other side opens; None: it may open none.
        idle_s: A session without a stream is closed after this long.
        on_lost: Called once, when the session has ended.
    """

    def __init__(
        self,
        *,
        accept: Callable[[], asyncio.Protocol] | None,
        idle_s: float,
        on_lost: Callable[[Session], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.congested: bool = False
        """Whether no more data is to be sent for now: the socket does not take it, or has enough in this turn."""
        self.usable: bool = True
        """Whether streams can be opened."""
        self._accept = accept
        self._idle_s = idle_s
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, Stream] = {}
        self._next_id = 1
        self._timer: asyncio.TimerHandle | None = None
        self._out: list[bytes | bytearray | memoryview] = []
        self._out_bytes = 0
        self._write_paused = False
        self._waiting: dict[Stream, None] = {}
        # Receiving: the beginning of a header, and the data frame whose end has not come.
        self._rest = b""
        self._left = 0
        self._into: Stream | None = None
        self._ends = False

    def open(self, protocol: asyncio.Protocol) -> Stream:
        """Open a stream; it can be written to at once, also while the socket is not connected yet."""
        stream = self._add(self._next_id, protocol, accepted=False)
        self._next_id += 2
        if self._next_id > LAST_ID:
            self.usable = False
        self.send(WINDOW_UPDATE, SYN, stream.number, 0)
        protocol.connection_made(stream)
        return stream

    def go_away(self) -> None:
        """Take no more streams; those that are open go on."""
        self.usable = False
        self.send(GO_AWAY, 0, 0, NORMAL)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close_if_idle()

    def close(self) -> None:
        """End it with all its streams."""
        self.usable = False
        if self._transport is not None:
            self._flush()
            self._transport.close()

    # ---- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        self._transport = stream = cast("asyncio.Transport", transport)
        # Or uvloop would keep what is flushed within a turn until its end.
        stream.set_write_buffer_limits(high=0)
        self._close_if_idle()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, by whomever."""
        self.usable = False
        self._transport = None
        self._out.clear()
        if self._timer is not None:
            self._timer.cancel()
        for stream in list(self._streams.values()):
            stream.lost(exc)
        self._on_lost(self)

    def pause_writing(self) -> None:
        """The other side does not read as fast as we send."""
        self._write_paused = self.congested = True

    def resume_writing(self) -> None:
        """It does again."""
        self._write_paused = False
        self._send_on()

    def wait(self, stream: Stream) -> None:
        """Let a stream send on when no more is congested; the one that has waited longest comes first."""
        self._waiting[stream] = None

    def _send_on(self) -> None:
        self.congested = False
        while self._waiting and not self.congested:
            stream = next(iter(self._waiting))
            del self._waiting[stream]
            stream.send_on()

    def data_received(self, data: bytes) -> None:
        """Take frames apart. HOT."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        while True:
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if piece and self._into is not None:
                    self._into.take(piece)
                if self._left:
                    return
                self._end_of_data()
            if end - at < HEADER.size:
                self._rest = data[at:]
                return
            version, kind, flags, number, length = HEADER.unpack_from(data, at)
            at += HEADER.size
            if not (version or kind or flags) and at + length <= end:
                # HOT: a whole frame of data is nearly all that ever comes.
                stream = self._streams.get(number)
                if stream is not None and length and stream.expects(length):
                    stream.take(data[at : at + length])
                    at += length
                    continue
            fault = self._fault_in(version, kind, flags, number, length)
            if fault:
                self._leave(fault)
                return

    # ---- frames

    def send(self, kind: int, flags: int, number: int, length: int, data: bytes | bytearray | memoryview = b"") -> None:
        """Send a frame, with all others of this turn of the loop. HOT."""
        out = self._out
        if not out:
            self.loop.call_soon(self._flush)
        out.append(HEADER.pack(0, kind, flags, number, length))
        if data:
            out.append(data)
            self._out_bytes += length
            if self._out_bytes >= MOST_AT_ONCE:
                self.congested = True
            elif len(out) >= MOST_PARTS and not self._write_paused:
                self._flush()

    def _flush(self) -> None:
        if not self._out or self._transport is None:
            return
        data, self._out, self._out_bytes = b"".join(self._out), [], 0
        self._transport.write(data)
        if not self._write_paused:
            self._send_on()
        elif self._transport.get_write_buffer_size() > MOST_UNREAD:
            self._transport.abort()

    def _fault_in(self, version: int, kind: int, flags: int, number: int, length: int) -> str:
        """Act on a frame; what is wrong with it, if anything. HOT."""
        if version or kind > GO_AWAY:
            return f"a frame of version {version} and type {kind}"
        if kind > WINDOW_UPDATE:
            self._take_of_session(kind, flags, length)
            return ""
        if flags & SYN and not self._open_asked(number):
            return f"a stream that cannot be opened: {number}"
        stream = self._streams.get(number)
        if kind == DATA:
            if stream is not None and not stream.expects(length):
                return f"more than the window of stream {number}"
            self._left, self._into, self._ends = length, stream, bool(flags & FIN)
        elif stream is not None and length:
            stream.grant(length)
        if stream is not None and flags:
            self._take_flags(stream, kind, flags)
        return ""

    def _take_flags(self, stream: Stream, kind: int, flags: int) -> None:
        if flags & ACK:
            stream.accepted = True
        if flags & RST:
            self._into = None
            stream.lost(ConnectionResetError("reset") if stream.accepted else StreamRefused("not taken"))
        elif flags & FIN and (kind != DATA or not self._left):
            stream.take_eof()

    def _end_of_data(self) -> None:
        stream, self._into = self._into, None
        if self._ends and stream is not None:
            stream.take_eof()

    def _open_asked(self, number: int) -> bool:
        """The other side opens a stream: take it, or reset it when no more are taken; False: it may not."""
        if self._accept is None or number % 2 == 0 or number in self._streams:
            return False
        if not self.usable:
            self.send(WINDOW_UPDATE, RST, number, 0)
            return True
        protocol = self._accept()
        stream = self._add(number, protocol, accepted=True)
        self.send(WINDOW_UPDATE, ACK, number, 0)
        protocol.connection_made(stream)
        return True

    def _take_of_session(self, kind: int, flags: int, value: int) -> None:
        if kind == GO_AWAY:
            self.usable = False
        elif flags & SYN:
            self.send(PING, ACK, 0, value)

    def _leave(self, fault: str) -> None:
        log.warning("the other side of a Unix socket does not speak yamux: it sent %s", fault)
        self.send(GO_AWAY, 0, 0, PROTOCOL_ERROR)
        self._flush()
        if self._transport is not None:
            self._transport.abort()

    # ---- the streams

    def _add(self, number: int, protocol: asyncio.Protocol, *, accepted: bool) -> Stream:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        stream = self._streams[number] = Stream(self, number, protocol, accepted=accepted)
        return stream

    def forget(self, stream: Stream) -> None:
        """A stream has ended."""
        self._streams.pop(stream.number, None)
        self._waiting.pop(stream, None)
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if not self._streams and self._timer is None and self._transport is not None:
            self._timer = self.loop.call_later(self._idle_s if self.usable else 0.0, self.close)
