"""Streams over one socket: each is a connection of its own, and none holds up, harms or hears another."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.yamux import Session, StreamRefused
from holdfast.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    PING,
    PROTOCOL_ERROR,
    RST,
    SYN,
    WINDOW,
    WINDOW_UPDATE,
)
from tests.integration.yamux.ends import PATIENCE_S, Echo, End, joined, raw, waiting_for


async def test_many_streams_carry_their_own_bytes_both_ways() -> None:
    async with joined(Echo) as both:
        ends = [both.open() for _ in range(100)]
        bodies = [bytes([number]) * (number * 997) for number in range(1, 101)]
        for end, body in zip(ends, bodies, strict=True):
            end.stream.write(body)
        for end, body in zip(ends, bodies, strict=True):
            assert await end.until(len(body)) == body


async def test_bodies_larger_than_the_window_pass_in_both_directions_at_once() -> None:
    body = bytes(range(256)) * 20_000
    async with joined(Echo) as both:
        ends = [both.open() for _ in range(4)]
        for end in ends:
            end.stream.write(body)
        for end in ends:
            assert await end.until(len(body)) == body
            assert not end.paused
            assert end.stream.get_write_buffer_size() == 0


async def test_a_reader_that_pauses_stops_its_writer_and_nobody_else() -> None:
    async with joined() as both:
        slow, quick = both.open(), both.open()
        slow.stream.write(b"x")
        slow_side, quick_side = await both.accepts(2)
        await slow_side.until(1)
        slow_side.stream.pause_reading()
        for _ in range(100):
            slow.stream.write(b"x" * 10_000)
        quick.stream.write(b"y" * 1_000_000)
        await quick_side.until(1_000_000)
        assert slow.paused
        assert len(slow_side.received) == 1
        # What is on its way is bounded by the window: the rest is still with the writer.
        assert slow.stream.get_write_buffer_size() >= 1_000_001 - WINDOW
        slow_side.stream.resume_reading()
        assert await slow_side.until(1_000_001) == b"x" * 1_000_001
        async with asyncio.timeout(PATIENCE_S):
            await slow.resumed.wait()


async def test_streams_share_a_congested_socket() -> None:
    async with joined() as both:
        ends = [both.open() for _ in range(20)]
        for end in ends:
            end.stream.write(b"z" * 1_000_000)
        sides = await both.accepts(20)
        await sides[-1].until(WINDOW)
        # The first to write is not the only one that is served: the last has had its first window before it is through.
        assert all(len(side.received) <= 1_000_000 for side in sides)
        for side in sides:
            await side.until(1_000_000)


async def test_all_that_is_written_in_one_turn_leaves_in_one_piece() -> None:
    async with raw(Echo) as peer:
        for number in range(1, 21, 2):
            peer.send(DATA, SYN, number, 100, b"a" * 100)
        async with asyncio.timeout(PATIENCE_S):
            piece = await peer.reader.read(65_536)
        assert len(piece) == 10 * (HEADER.size + HEADER.size + 100)


# ---- how streams end


async def test_close_sends_everything_first_and_tells_both_ends() -> None:
    body = b"x" * (3 * WINDOW)
    async with joined() as both:
        end = both.open()
        end.stream.write(body)
        end.stream.close()
        assert end.stream.is_closing()
        end.stream.write(b"too late")
        (side,) = await both.accepts(1)
        assert await side.until(len(body)) == body
        assert await end.end() is None
        assert await side.end() is None
        assert side.eof.is_set()


async def test_a_half_closed_stream_is_still_answered() -> None:
    def staying() -> End:
        end = End()
        end.stays_open = True
        return end

    async with joined(staying) as both:
        end = both.open()
        end.stream.write(b"question")
        end.stream.write_eof()
        (side,) = await both.accepts(1)
        async with asyncio.timeout(PATIENCE_S):
            await side.eof.wait()
        assert bytes(side.received) == b"question"
        side.stream.write(b"answer")
        side.stream.close()
        assert await end.until(6) == b"answer"
        assert await side.end() is None
        assert await end.end() is None


async def test_abort_resets_the_stream_and_spares_the_others() -> None:
    async with joined(Echo) as both:
        end, other = both.open(), both.open()
        end.stream.write(b"a")
        await end.until(1)
        end.stream.abort()
        assert await end.end() is None
        assert isinstance(await both.accepted[0].end(), ConnectionResetError)
        other.stream.write(b"b")
        assert await other.until(1) == b"b"


async def test_a_stream_that_is_left_with_a_full_window_holds_nothing_back() -> None:
    async with joined() as both:
        end, other = both.open(), both.open()
        sides = await both.accepts(2)
        sides[0].stream.pause_reading()
        end.stream.write(b"x" * (3 * WINDOW))
        other.stream.write(b"y")
        await sides[1].until(1)
        sides[0].stream.close()
        assert await sides[0].end() is None
        assert await end.end() is None
        other.stream.write(b"y" * WINDOW)
        await sides[1].until(1 + WINDOW)


async def test_what_was_held_is_delivered_before_the_end() -> None:
    async with joined() as both:
        end = both.open()
        (side,) = await both.accepts(1)
        side.stream.pause_reading()
        assert not side.stream.is_reading()
        end.stream.write(b"last words")
        end.stream.close()
        await end.end()
        await asyncio.sleep(0)
        assert not side.received
        side.stream.resume_reading()
        assert await side.until(10) == b"last words"
        assert await side.end() is None


async def test_a_protocol_that_raises_loses_its_stream_only() -> None:
    class Raising(Echo):
        def data_received(self, data: bytes) -> None:
            if data == b"bad":
                raise LookupError("a bug")
            super().data_received(data)

    async with joined(Raising) as both:
        bad, good = both.open(), both.open()
        bad.stream.write(b"bad")
        good.stream.write(b"good")
        assert await good.until(4) == b"good"
        assert isinstance(await bad.end(), ConnectionResetError)


# ---- how sessions end


async def test_a_session_that_goes_away_ends_what_is_open_and_takes_nothing_more() -> None:
    async with joined(Echo) as both:
        end = both.open()
        end.stream.write(b"a")
        await end.until(1)
        both.server.go_away()
        late = both.open()  # before it is known here
        late.stream.write(b"lost")
        assert isinstance(await late.end(), StreamRefused)
        assert not both.client.usable
        end.stream.write(b"b")
        assert await end.until(2) == b"ab"
        assert len(both.accepted) == 1
        end.stream.close()
        await both.ended()


async def test_the_end_of_the_socket_is_the_end_of_all_streams() -> None:
    async with joined() as both:
        ends = [both.open() for _ in range(3)]
        sides = await both.accepts(3)
        both.server.close()
        for end in (*ends, *sides):
            assert not isinstance(await end.end(), StreamRefused)
        assert not both.client.usable


async def test_a_session_without_streams_is_closed_after_a_while() -> None:
    async with joined(idle_s=0.01) as both:
        end = both.open()
        await both.accepts(1)
        end.stream.close()
        await both.ended()


async def test_a_stream_can_be_written_to_before_the_socket_is_there() -> None:
    loop = asyncio.get_running_loop()
    session = Session(accept=None, idle_s=60, on_lost=lambda _: None)
    end = End()
    session.open(end)
    end.stream.write(b"early")
    session.connection_lost(OSError("could not be connected"))
    assert isinstance(await end.end(), OSError)
    assert loop.is_running()


# ---- peers that do not keep to it


async def test_a_stream_is_opened_acknowledged_and_pings_are_answered() -> None:
    async with raw(Echo) as peer:
        peer.send(WINDOW_UPDATE, SYN, 1, 0)
        assert await peer.frame() == (WINDOW_UPDATE, ACK, 1, 0)
        peer.send(DATA, 0, 1, 2, b"hi")
        assert await peer.frame() == (DATA, 0, 1, 2)
        peer.send(PING, SYN, 0, 77)
        assert await peer.frame() == (PING, ACK, 0, 77)
        # As other implementations do it: the first data opens, the last data closes.
        peer.send(DATA, SYN | FIN, 3, 5, b"hello")
        assert await peer.frame() == (WINDOW_UPDATE, ACK, 3, 0)
        assert await peer.frame() == (DATA, 0, 3, 5)
        assert await peer.frame() == (WINDOW_UPDATE, FIN, 3, 0)
        peer.send(DATA, SYN | FIN, 5, 0)
        assert await peer.frame() == (WINDOW_UPDATE, ACK, 5, 0)
        assert await peer.frame() == (WINDOW_UPDATE, FIN, 5, 0)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(HEADER.pack(1, DATA, 0, 1, 0), id="another version"),
        pytest.param(HEADER.pack(0, 4, 0, 1, 0), id="unknown type"),
        pytest.param(HEADER.pack(0, WINDOW_UPDATE, SYN, 2, 0), id="even stream"),
        pytest.param(HEADER.pack(0, WINDOW_UPDATE, SYN, 0, 0), id="stream zero"),
        pytest.param(HEADER.pack(0, WINDOW_UPDATE, SYN, 1, 0), id="stream opened twice"),
        pytest.param(HEADER.pack(0, DATA, 0, 1, WINDOW + 1), id="more than the window"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", id="http"),
    ],
)
async def test_a_peer_that_breaks_the_rules_is_told_and_left(frame: bytes) -> None:
    async with raw() as peer:
        peer.send(WINDOW_UPDATE, SYN, 1, 0)
        assert await peer.frame() == (WINDOW_UPDATE, ACK, 1, 0)
        peer.writer.write(frame)
        assert await peer.frame() == (GO_AWAY, 0, 0, PROTOCOL_ERROR)
        await peer.closed()
        assert await peer.accepted[0].end() is None


async def test_what_was_sent_is_known_to_be_read_once_a_ping_is_answered() -> None:
    async with joined() as both:
        ends = [both.open() for _ in range(20)]
        for end in ends:
            end.stream.write(b"x" * 1000)
        await both.accepts(20)
        ends[3].stream.abort()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(both.client.heard(), both.client.heard())
        assert both.accepted[3].lost.done()
        assert all(len(end.received) == 1000 for end in both.accepted)


async def test_a_ping_that_is_never_answered_ends_with_the_session() -> None:
    async with joined() as both:
        both.open()
        await both.accepts(1)
        asked = asyncio.create_task(both.client.heard())
        both.server.close()
        async with asyncio.timeout(PATIENCE_S):
            await asked
            await both.ended()
            await both.client.heard()


class Asks(End):
    """With its first bytes asks whether the other side is still there, and writes down when it is said to be."""

    there: list[bytes] = []  # noqa: RUF012 - of all ends of one test

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.stream.if_still_there(lambda: self.there.append(bytes(self.received)))


@pytest.fixture
def there() -> list[bytes]:
    Asks.there = []
    return Asks.there


def frames_of(streams: int, size: int) -> bytes:
    """So many streams that are opened, each with so much data."""
    return b"".join(
        HEADER.pack(0, WINDOW_UPDATE, SYN, number, 0) + HEADER.pack(0, DATA, 0, number, size) + b"%0*d" % (size, number)
        for number in range(1, 2 * streams, 2)
    )


@pytest.mark.parametrize("flag", [RST, FIN])
async def test_whoever_asks_is_not_told_of_a_stream_whose_end_is_behind_its_data(flag: int, there: list[bytes]) -> None:
    ends = b"".join(HEADER.pack(0, WINDOW_UPDATE, flag, number, 0) for number in range(3, 41, 2))
    # More than one read takes; the ends of all but one are behind all data.
    async with waiting_for(frames_of(20, 14_000) + ends, Asks) as peer:
        peer.send(PING, SYN, 0, 1)
        while await peer.frame() != (PING, ACK, 0, 1):
            pass
        assert there == [b"%014000d" % 1]


async def test_whoever_asks_is_not_told_once_the_socket_has_ended(there: list[bytes]) -> None:
    async with waiting_for(frames_of(20, 14_000), Asks, ended=True) as peer:
        async with asyncio.timeout(PATIENCE_S):
            while len(peer.accepted) < 20:
                await asyncio.sleep(0)
        for end in peer.accepted:
            await end.end()
        assert there == []


async def test_what_comes_after_the_question_does_not_hold_up_the_answer(there: list[bytes]) -> None:
    async with raw(Asks) as peer:
        peer.send(WINDOW_UPDATE, SYN, 1, 0)
        peer.send(DATA, 0, 1, 5, b"hello")
        async with asyncio.timeout(PATIENCE_S):
            while not there:
                peer.send(PING, SYN, 0, 1)
                await asyncio.sleep(0)
        assert there == [b"hello"]


async def test_the_window_is_granted_again_only_for_what_was_read() -> None:
    async with raw() as peer:
        peer.send(WINDOW_UPDATE, SYN, 1, 0)
        await peer.frame()
        peer.send(DATA, 0, 1, WINDOW // 2, b"x" * (WINDOW // 2))
        assert await peer.frame() == (WINDOW_UPDATE, 0, 1, WINDOW // 2)
        peer.accepted[0].stream.pause_reading()
        peer.send(DATA, 0, 1, WINDOW, b"x" * WINDOW)
        peer.send(DATA, 0, 1, 1, b"x")
        assert await peer.frame() == (GO_AWAY, 0, 0, PROTOCOL_ERROR)
        await peer.closed()


async def test_frames_for_streams_that_are_gone_are_passed_over() -> None:
    async with raw(Echo) as peer:
        peer.send(DATA, 0, 9, 1000, b"x" * 1000)
        peer.send(WINDOW_UPDATE, RST, 9, 5)
        peer.send(WINDOW_UPDATE, SYN, 1, 0)
        peer.send(WINDOW_UPDATE, RST, 1, 0)
        peer.send(DATA, FIN, 1, 3, b"abc")
        peer.send(PING, SYN, 0, 1)
        assert await peer.frame() == (WINDOW_UPDATE, ACK, 1, 0)
        assert await peer.frame() == (PING, ACK, 0, 1)
        assert isinstance(await peer.accepted[0].end(), ConnectionResetError)


async def test_a_peer_that_asks_and_never_reads_is_left() -> None:
    async with raw() as peer:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport that reads
        ping = HEADER.pack(0, PING, SYN, 0, 0) * 10_000
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(ConnectionError):  # noqa: PT012 - until it happens
                while True:
                    peer.writer.write(ping)
                    await peer.writer.drain()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_in_any_pieces_are_taken_or_refused(data: bytes, step: int) -> None:
    async def feed(pieces: list[bytes]) -> list[bytes]:
        async with raw() as peer:
            peer.writer.write(HEADER.pack(0, WINDOW_UPDATE, SYN, 1, 0) + HEADER.pack(0, DATA, 0, 1, 3) + b"abc")
            for piece in pieces:
                peer.writer.write(piece)
                await asyncio.sleep(0)
            peer.writer.write_eof()
            await peer.closed()
            return [bytes(end.received) for end in peer.accepted]

    whole = asyncio.run(feed([data]))
    assert whole == asyncio.run(feed([data[at : at + step] for at in range(0, len(data), step)]))
    assert whole[0].startswith(b"abc")
