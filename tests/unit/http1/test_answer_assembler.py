from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http1.assembled import Answers, answer, split
from tests.unit.http1.test_message import values
from tests.unit.http1.test_request_assembler import cuts, names

OK = b"HTTP/1.1 200 OK\r\n"


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, tuple[int, list[tuple[bytes, bytes]], bytes]]:
    """An answer on the wire, and what it says."""
    status = draw(st.integers(200, 599).filter(lambda status: status not in {204, 304}))
    headers = draw(st.lists(st.tuples(names, values), max_size=8))
    body = draw(st.binary(max_size=200))
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nLink: a\r\n\r\n" * 2]))
    if draw(st.booleans()):
        headers.append((b"Transfer-Encoding", b"Chunked"))
        chunks = [chunk for chunk in split(body, draw(cuts)) if chunk]
        wire = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nX-T: 1\r\n\r\n"
    else:
        headers.append((b"content-length", b"%d" % len(body)))
        wire = body
    lines = b"".join(b"%b: %b \r\n" % header for header in headers)
    return interim + b"HTTP/1.1 %d Whatever\r\n%b\r\n%b" % (status, lines, wire), (status, headers, body)


@given(answers(), cuts)
def test_pieces_give_what_the_whole_gives(
    sent: tuple[bytes, tuple[int, list[tuple[bytes, bytes]], bytes]], cuts: list[int]
) -> None:
    wire, said = sent
    got = answer(*split(wire, cuts))
    assert (got.status, got.headers, got.body) == said
    assert got.complete
    assert got.reusable
    assert got.fault is None


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda tail: OK + tail)), cuts)
def test_any_bytes_give_an_answer_or_a_fault_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    whole, cut = answer(data), answer(*split(data, cuts))
    assert (whole.fault is None) == (cut.fault is None)
    assert (whole.status, whole.body, whole.complete) == (cut.status, cut.body, cut.complete) or whole.fault


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 1000 X\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        OK + b"Content-Length: +2\r\n\r\nhi",
        b"HTTP/1.1 102 P\r\nContent-Length: 2\r\n\r\nhi" + OK + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 199 P\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        OK + b"Content-Length: " + b"0" * 5000 + b"2\r\n\r\nhi",
        OK + b"Transfer-Encoding: gzip\r\n\r\nhi",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        OK + b"A : b\r\nContent-Length: 0\r\n\r\n",
        OK + b"A: b\0\r\nContent-Length: 0\r\n\r\n",
        OK + b"A: b\r\n" * 300 + b"\r\n",
    ],
)
def test_what_is_not_an_answer_is_a_fault(data: bytes) -> None:
    got = answer(data)
    assert got.fault is not None
    assert not got.complete


@pytest.mark.parametrize(
    "piece",
    [b"A: b\r\n", b"A" * 100, b"HTTP/1.1 102 Processing\r\n\r\n"],
)
def test_what_comes_without_an_end_is_not_kept(piece: bytes) -> None:
    got = Answers(max_header_bytes=1000)
    start = b"" if piece.startswith(b"HTTP") else OK
    got.feed(start + piece)
    for _ in range(2000):
        if got.fault is not None:
            break
        got.feed(piece)
    assert got.fault is not None
    assert "1000 bytes" in got.fault


def test_an_interim_answer_may_say_that_it_has_no_body() -> None:
    got = answer(b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi")
    assert (got.fault, got.status, got.body) == (None, 200, b"hi")


def test_endless_trailers_are_not_kept() -> None:
    got = answer(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", *[b"A: b\r\n"] * 2000, max_header_bytes=1000)
    assert got.fault is not None


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_ends_with_its_head(status: int) -> None:
    got = answer(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status)
    assert (got.status, got.body, got.complete, got.reusable) == (status, b"", True, True)


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_an_answer_to_head_ends_with_its_head(framing: bytes) -> None:
    got = answer(OK + framing + b"\r\n", head_only=True)
    assert (got.complete, got.body) == (True, b"")
    # The same connection carries the next one, whose body is read.
    if got.reusable:
        got.status = 0
        got.expect(head_only=False)
        got.feed(OK + b"Content-Length: 2\r\n\r\nhi")
        assert (got.complete, got.body) == (True, b"hi")


def test_a_body_after_the_answer_to_head_spoils_the_connection() -> None:
    got = answer(OK + b"Content-Length: 5\r\n\r\nhello", head_only=True)
    assert got.complete
    assert not got.reusable


@pytest.mark.parametrize("extra", [b"junk", b"HTTP/1.1 200 OK\r\n", OK + b"Content-Length: 0\r\n\r\n"])
def test_bytes_behind_an_answer_spoil_the_connection_but_not_the_answer(extra: bytes) -> None:
    got = answer(OK + b"Content-Length: 2\r\n\r\nhi" + extra)
    assert (got.status, got.body, got.complete, got.reusable) == (200, b"hi", True, False)
    assert got.fault is None


def test_only_an_answer_without_any_framing_is_ended_by_the_connection() -> None:
    assert answer(OK + b"\r\nhi").feed_eof()
    assert answer(b"HTTP/1.0 200 OK\r\n\r\nhi").feed_eof()
    assert not answer(OK + b"Content-Length: 5\r\n\r\nhi").feed_eof()
    assert not answer(OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhi").feed_eof()
    assert not answer(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n").feed_eof()
    assert not answer(OK + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nhi\r\n0\r\n").feed_eof()
    assert not answer(OK + b"X: y").feed_eof()
    assert not answer(b"").feed_eof()
    assert not answer(b"HTTP/1.1 100 Continue\r\n\r\n").feed_eof()


def test_keep_alive_is_the_peers_word() -> None:
    assert answer(OK + b"Content-Length: 0\r\n\r\n").reusable
    assert not answer(OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n").reusable
    assert not answer(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").reusable
    assert answer(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n").reusable
