from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.queue import wire
from holdfast.queue.wire import Err, Event, Info, Msg, Ok, Parser, Ping, Pong, ProtocolViolation

token = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-$.", min_size=1, max_size=30).map(
    str.encode
)
block = st.binary(max_size=60).map(lambda text: b"NATS/1.0\r\nName: " + text + b"\r\n\r\n")
message = st.builds(
    Msg,
    st.integers(1, 10**6).map(lambda n: b"%d" % n),
    token,
    st.one_of(st.just(b""), token),
    st.one_of(st.just(b""), block),
    st.one_of(st.binary(max_size=200), st.just(b"\r\n"), st.just(b"PING\r\n")),
)
event = st.one_of(
    message,
    st.just(Ping()),
    st.just(Pong()),
    st.just(Ok()),
    st.text("abc XYZ", max_size=20).map(lambda text: Err(text.strip())),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3).map(Info),
)


def as_sent(event: Event) -> bytes:
    match event:
        case Msg(sid, subject, reply, headers, payload):
            words = [b"HMSG" if headers else b"MSG", subject, sid]
            words += [reply] if reply else []
            words += [b"%d" % len(headers)] if headers else []
            words.append(b"%d" % (len(headers) + len(payload)))
            return b" ".join(words) + b"\r\n" + headers + payload + b"\r\n"
        case Ping():
            return b"PING\r\n"
        case Pong():
            return b"PONG\r\n"
        case Ok():
            return b"+OK\r\n"
        case Err(text):
            return b"-ERR '%b'\r\n" % text.encode()
        case Info(fields):
            return b"INFO %b \r\n" % json.dumps(fields).encode()


@given(st.lists(event, max_size=8), st.data())
def test_events_do_not_depend_on_how_the_bytes_were_split(events: list[Event], data: st.DataObject) -> None:
    stream = b"".join(map(as_sent, events))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    parser = Parser()
    seen: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        seen += parser.feed(stream[start:end])
    assert seen == events


@given(st.lists(event, max_size=4))
def test_events_arrive_even_byte_by_byte(events: list[Event]) -> None:
    parser = Parser()
    seen: list[Event] = []
    for byte in b"".join(map(as_sent, events)):
        seen += parser.feed(bytes([byte]))
    assert seen == events


noise = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.sampled_from(
            [b"MSG ", b"HMSG ", b"INFO ", b"PING", b"-ERR ", b"\r\n", b" ", b"a", b"-1", b"5", b"12", b"{", b"}", b"\0"]
        ),
        max_size=30,
    ).map(b"".join),
)


@given(st.lists(noise, max_size=6))
def test_random_bytes_are_refused_as_a_violation_and_never_otherwise(pieces: list[bytes]) -> None:
    parser = Parser(max_payload=1000)
    try:
        for piece in pieces:
            parser.feed(piece)
    except ProtocolViolation:
        pass


@pytest.mark.parametrize(
    "line",
    [
        b"MSG a 1\r\n",
        b"MSG a 1 r x 5\r\n",
        b"MSG a 1 five\r\n",
        b"MSG a 1 -1\r\n",
        b"HMSG a 1 5\r\n",
        b"HMSG a 1 6 5\r\n",
        b"HMSG a 1 -1 5\r\n",
        b"INFO [1]\r\n",
        b"INFO {\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
    ],
)
def test_a_line_that_is_no_command_is_a_violation(line: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        Parser().feed(line)


def test_a_message_that_does_not_end_where_it_said_is_a_violation() -> None:
    with pytest.raises(ProtocolViolation, match="does not end"):
        Parser().feed(b"MSG a 1 2\r\nabc\r\n")


def test_a_line_without_end_is_refused_at_the_limit() -> None:
    parser = Parser()
    for _ in range(wire.MAX_LINE // 1024):
        parser.feed(b"x" * 1024)
    with pytest.raises(ProtocolViolation, match="longer than"):
        parser.feed(b"x" * 1024)


def test_a_message_over_the_limit_is_refused_before_its_bytes_arrive() -> None:
    limit = 1000 + wire.HEADER_ROOM
    assert Parser(max_payload=1000).feed(b"MSG a 1 %d\r\n" % limit) == []
    with pytest.raises(ProtocolViolation, match="larger than the limit"):
        Parser(max_payload=1000).feed(b"MSG a 1 %d\r\n" % (limit + 1))


def test_a_large_message_in_small_pieces_takes_linear_time() -> None:
    # Copying what is there for every piece would move 8 MiB x 8192 / 2 = 32 GiB.
    body = b"x" * (8 * 1024 * 1024)
    parser = Parser(max_payload=len(body))
    stream = b"MSG a 1 %d\r\n%b\r\n" % (len(body), body)
    seen: list[Event] = []
    for start in range(0, len(stream), 1024):
        seen += parser.feed(stream[start : start + 1024])
    assert seen == [Msg(b"1", b"a", b"", b"", body)]


def test_commands_are_written_as_the_protocol_says() -> None:
    assert wire.connect({"verbose": False, "name": "ü"}) == b'CONNECT {"verbose":false,"name":"\\u00fc"}\r\n'
    assert wire.sub(b"a.>", b"7") == b"SUB a.> 7\r\n"
    assert wire.unsub(b"7") == b"UNSUB 7\r\n"
    assert wire.pub(b"a", b"xy") == b"PUB a 2\r\nxy\r\n"
    assert wire.pub(b"a", b"", b"r") == b"PUB a r 0\r\n\r\n"
    assert wire.hpub(b"a", b"NATS/1.0\r\n\r\n", b"xy") == b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nxy\r\n"
    assert wire.hpub(b"a", b"NATS/1.0\r\n\r\n", b"", b"r") == b"HPUB a r 12 12\r\nNATS/1.0\r\n\r\n\r\n"


def test_the_status_of_a_header_block_is_read() -> None:
    timeout = b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\nNats-Pending-Bytes: 0\r\n\r\n"
    assert wire.status(timeout) == 408
    assert wire.status_text(timeout) == "Request Timeout"
    assert wire.header(timeout, b"Nats-Pending-Messages") == b"3"
    assert wire.header(timeout, b"Nats-Pending") is None
    assert wire.status(b"NATS/1.0 503\r\n\r\n") == 503
    assert wire.status_text(b"NATS/1.0 503\r\n\r\n") == ""
    assert wire.status(b"NATS/1.0\r\nA: b\r\n\r\n") == 0
    assert wire.status(b"NATS/1.0 what\r\n\r\n") == 500
    assert wire.status(b"") == 0
