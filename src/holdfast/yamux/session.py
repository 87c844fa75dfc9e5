"""The socket that streams share: frames in and out, and which streams there are."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import cast

from holdfast.incoming import FRESH_S, Incoming
from holdfast.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    LAST_ID,
    NORMAL,
    PING,
    PROTOCOL_ERROR,
    RST,
    SYN,
    WINDOW_UPDATE,
)
from holdfast.yamux.stream import Stream, StreamRefused

MOST_AT_ONCE = 262_144
# Of what all streams send in one turn of the loop: the rest waits in the streams, not for the socket.
MOST_PARTS = 48
# Of frames that wait for the end of the turn, a header and its data being two: with two dozen small messages the other
# side has something to do while the rest is made.
MOST_UNREAD = 4 * 1024 * 1024
# A peer that sends frames and reads no answers to them is left; our own data waits in the streams.

NEVER = float("inf")

log = logging.getLogger("holdfast.yamux")


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
        self._lost = False
        self._streams: dict[int, Stream] = {}
        self._next_id = 1
        self._timer: asyncio.TimerHandle | None = None
        self._out: list[bytes | bytearray | memoryview] = []
        self._out_bytes = 0
        self._write_paused = False
        self._waiting: dict[Stream, None] = {}
        # Of what has come: what was read, whether the latest read has more that is not taken apart, who waits for it,
        # until how much, and when that was looked at last.
        self._read_bytes = 0
        self._looked_at = -NEVER
        self._more = self._to_look = False
        self._asking: list[tuple[Stream, Callable[[], None]]] = []
        self._until: float = 0
        # Pings that were not answered yet: the other side's, and ours.
        self._pinged: list[int] = []
        self._pings = itertools.count(1)
        self._unanswered: dict[int, asyncio.Future[None]] = {}
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

    async def heard(self) -> None:
        """Return once the other side has read all that was sent to it, or the session has ended."""
        if self._lost:
            return
        number = next(self._pings) & 0xFFFFFFFF
        asked = self._unanswered[number] = self.loop.create_future()
        self.send(PING, SYN, 0, number)
        try:
            await asked
        finally:
            del self._unanswered[number]

    def is_read(self) -> bool:
        """Whether all is read that has come by now, as far as can be told at once. HOT: 0.2 µs.

        It is at the end of a read, unless nobody has asked for a while: then it is looked.
        """
        if self._more:
            return False
        before, self._looked_at = self._looked_at, self.loop.time()
        if self._looked_at - before >= FRESH_S:
            unread = self._unread()
            self._until = NEVER if unread is None else self._read_bytes + unread
        return self._until <= self._read_bytes

    def when_read(self, stream: Stream, run: Callable[[], None]) -> None:
        """Call `run` once all is read that has come by now, unless that ends the stream or the session.

        One who asked in the middle of a read waits at least for its end, where it is looked if need be. What comes
        later holds nobody up.
        """
        self._asking.append((stream, run))
        self._to_look = self._to_look or self._more

    def _go_on(self) -> None:
        if self._to_look:
            self._to_look = False
            self.is_read()
        if self._until > self._read_bytes:
            return
        asking, self._asking = self._asking, []
        for stream, run in asking:
            if stream.has_left():
                stream.abort()
            else:
                run()

    def _unread(self) -> int | None:
        if self._transport is None or self._transport.is_closing():
            return None
        return Incoming(self._transport).look()

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
        self._lost = True
        self._asking.clear()
        self._out.clear()
        if self._timer is not None:
            self._timer.cancel()
        for stream in list(self._streams.values()):
            stream.lost(exc)
        for asked in self._unanswered.values():
            _resolve(asked)
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
        """Frames come. HOT."""
        self._read_bytes += len(data)
        self._more = True
        self._take_apart(data)
        self._more = False
        if self._asking:
            self._go_on()

    def _take_apart(self, data: bytes) -> None:
        """Act on frames. HOT."""
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
                    self._more = at + length < end
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
            # After what those frames have begun that were read before: who is answered relies on it.
            if not self._pinged:
                self.loop.call_soon(self._answer_pings)
            self._pinged.append(value)
        elif value in self._unanswered:
            _resolve(self._unanswered[value])

    def _answer_pings(self) -> None:
        pinged, self._pinged = self._pinged, []
        for value in pinged:
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


def _resolve(asked: asyncio.Future[None]) -> None:
    if not asked.done():
        asked.set_result(None)
