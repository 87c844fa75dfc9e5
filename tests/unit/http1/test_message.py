from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.headers import RawHeaders, forwardable
from holdfast.http1.message import (
    TOKEN_CHARACTERS,
    for_origin,
    forwarded_lines,
    header_lines,
    is_dated,
    message_of_lines,
    read_request,
    request_message,
    status_line,
)
from holdfast.http1.origin import Origin

tokens = st.lists(st.sampled_from(TOKEN_CHARACTERS), min_size=1, max_size=20).map(bytes)
# Everything that may stand in a value, latin-1 and UTF-8 alike; white space at its ends is not part of it.
values = st.binary(max_size=40).map(lambda value: bytes(b for b in value if b >= 0x20 and b != 0x7F).strip())
targets = st.lists(st.integers(0x21, 0xFF).filter(lambda b: b != 0x7F), min_size=1, max_size=60).map(bytes)
headers_ = st.lists(
    st.tuples(tokens.filter(lambda n: n.lower() not in (b"content-length", b"transfer-encoding")), values), max_size=12
)


@given(tokens, targets, headers_, st.binary(max_size=300))
def test_a_request_reads_back_as_written(
    method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    request = read_request(request_message(method, target, headers, body))
    assert (request.method, request.target, request.body) == (method, target, body)
    assert [header for header in request.headers if header[0] != b"Content-Length"] == headers


@given(targets, headers_, st.binary(max_size=300))
def test_a_stored_request_is_addressed_without_touching_it(
    target: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    message = request_message(b"POST", target, headers, body)
    sent = read_request(for_origin(message, Origin("f", 8080, instance="f.ns/f-1/a").lines))
    assert sent.headers[:2] == [(b"Host", b"f:8080"), (b"X-Holdfast-Instance", b"f.ns/f-1/a")]
    assert sent._replace(headers=sent.headers[2:]) == read_request(message)


def test_duplicates_order_spelling_and_other_alphabets_survive() -> None:
    headers = [(b"x-a", b"1"), (b"X-B", b"\xe4\xf6 \xc3\xa4"), (b"X-A", b"2"), (b"x-a", b"")]
    assert request_message(b"POST", b"/a%2Fb?c=%00&&", headers, b"\x00\xff") == (
        b"POST /a%2Fb?c=%00&& HTTP/1.1\r\nx-a: 1\r\nX-B: \xe4\xf6 \xc3\xa4\r\nX-A: 2\r\nx-a: \r\n"
        b"Content-Length: 2\r\n\r\n\x00\xff"
    )


@pytest.mark.parametrize("value", [b"a\r\nX-Evil: 1", b"a\nb", b"a\rb", b"a\0b", b"\r", b"\n"])
def test_a_value_cannot_become_two_headers(value: bytes) -> None:
    with pytest.raises(ValueError, match="X-Value contains CR, LF or NUL"):
        header_lines([(b"X-Ok", b"1"), (b"X-Value", value)])


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"a\0", b"\xe4", b"(a)", b"a "])
def test_a_name_is_a_token(name: bytes) -> None:
    with pytest.raises(ValueError, match="is not a header name"):
        header_lines([(b"X-Ok", b"1"), (name, b"v")])


def test_values_do_not_cover_for_each_other() -> None:
    # One value with two line ends and an absent one must not pass a count over all lines.
    with pytest.raises(ValueError, match=r"cannot be written|contains"):
        header_lines([(b"a", b"\r"), (b"b", b"\n")])


@pytest.mark.parametrize("target", [b"", b"/a b", b"/a\r\nX: y", b"/\0", b"/a\tb", b"/\x7f"])
def test_a_target_cannot_end_the_request_line(target: bytes) -> None:
    with pytest.raises(ValueError, match="is not a request target"):
        request_message(b"GET", target, [], b"")


@pytest.mark.parametrize("method", [b"", b"GET /x", b"GE\nT", b"G\xc3"])
def test_a_method_is_a_token(method: bytes) -> None:
    with pytest.raises(ValueError, match="is not a method"):
        request_message(method, b"/", [], b"")


def test_a_body_is_framed_by_its_length_alone() -> None:
    with pytest.raises(ValueError, match="does not frame"):
        request_message(b"POST", b"/", [(b"content-LENGTH", b"3")], b"four")
    with pytest.raises(ValueError, match="does not frame"):
        request_message(b"POST", b"/", [(b"Transfer-Encoding", b"chunked")], b"four")
    with pytest.raises(ValueError, match="does not frame"):
        request_message(b"POST", b"/", [(b"Content-Length", b"4")] * 2, b"four")
    given_length = request_message(b"POST", b"/", [(b"content-length", b"4")], b"four")
    assert given_length == b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nfour"


def test_an_absent_body_is_said_where_one_is_usual() -> None:
    assert b"Content-Length: 0\r\n" in request_message(b"POST", b"/", [], b"")
    assert b"Content-Length" not in request_message(b"GET", b"/", [], b"")
    assert b"Content-Length: 1\r\n" in request_message(b"GET", b"/", [], b"x")


def test_lines_become_a_message_whose_target_and_method_are_looked_at() -> None:
    assert message_of_lines(b"PUT", b"/", b"A: b\r\n") == b"PUT / HTTP/1.1\r\nA: b\r\n\r\n"
    assert message_of_lines(b"PUT", b"/", b"A: b\r\n", b"body") == b"PUT / HTTP/1.1\r\nA: b\r\n\r\nbody"
    with pytest.raises(ValueError, match="not a request target"):
        message_of_lines(b"PUT", b"/ HTTP/1.1\r\nA: b", b"")
    with pytest.raises(ValueError, match="not a method"):
        message_of_lines(b"PUT /", b"/", b"")


@given(headers_, st.frozensets(st.sampled_from([b"a", b"host", b"x-call-id"])))
def test_forwarded_lines_are_those_of_the_forwardable_headers(headers: RawHeaders, hidden: frozenset[bytes]) -> None:
    assert forwarded_lines(headers, hidden) == header_lines(forwardable(headers, hidden))
    with_named = [(b"X-Call-Id", b"1"), *headers, (b"CONNECTION", b"close, x-call-id")]
    assert b"X-Call-Id: 1" not in forwarded_lines(with_named, hidden)


@pytest.mark.parametrize("value", [b"1\r\nSet-Cookie: a", b"1\nB: 2", b"1\rB: 2", b"\0"])
def test_forwarded_lines_cannot_split_a_message(value: bytes) -> None:
    with pytest.raises(ValueError, match="X-A"):
        forwarded_lines([(b"X-A", value)], frozenset())


@pytest.mark.parametrize("name", [b"Date", b"date", b"DATE"])
def test_a_date_among_lines_is_found_wherever_it_stands_and_nowhere_else(name: bytes) -> None:
    assert is_dated(b"%b: x\r\nA: b\r\n" % name)
    assert is_dated(b"A: b\r\n%b: x\r\n" % name)
    assert not is_dated(b"X-%b: x\r\nA: date: b\r\n" % name)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"POST / HTTP/1.1\r\n",
        b"POST / HTTP/1.0\r\n\r\n",
        b"POST  / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nnot a header\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nfour",
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nfour",
        b"POST / HTTP/1.1\r\n\r\nunannounced",
        b"POST / HTTP/1.1\r\nA: b\nc\r\n\r\n",
    ],
)
def test_what_is_not_a_whole_message_is_not_read(message: bytes) -> None:
    with pytest.raises(ValueError):
        read_request(message)


def test_status_lines_have_the_names_of_rfc_9110() -> None:
    assert status_line(202) == b"HTTP/1.1 202 Accepted\r\n"
    assert status_line(413) == b"HTTP/1.1 413 Content Too Large\r\n"
    assert status_line(799) == b"HTTP/1.1 799 \r\n"
    for status in (0, 99, 1000):
        with pytest.raises(ValueError, match="is not an HTTP status"):
            status_line(status)
