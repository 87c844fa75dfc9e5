from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.http1.limits import Limits
from tests.unit.http1.assembled import Requests, assemble, split
from tests.unit.http1.test_message import tokens, values

names = tokens.filter(
    lambda name: (
        name.lower() not in {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect"}
        and not name.lower().startswith(b"proxy-connection")
    )
)
paths = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40).map(lambda t: b"/" + t.encode())
cuts = st.lists(st.integers(0, 4000), max_size=12)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]]:
    """A request on the wire, and what it says."""
    method = draw(st.sampled_from([b"POST", b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"]))
    target = draw(paths)
    headers = [(b"Host", b"h"), *draw(st.lists(st.tuples(names, values), max_size=8))]
    body = draw(st.binary(max_size=200))
    blank = draw(st.sampled_from([b"", b" ", b"  "]))
    if draw(st.booleans()):
        headers.append((b"transfer-Encoding", b"chunked"))
        chunks = [chunk for chunk in split(body, draw(cuts)) if chunk]
        extension = draw(st.sampled_from([b"", b";a=b", b";q"]))
        trailer = draw(st.sampled_from([b"", b"X-Trailer: 1\r\n", b"Host: evil\r\nExpect: evil\r\n"]))
        wire = b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
        wire += b"0\r\n" + trailer + b"\r\n"
    else:
        headers.append((b"Content-Length", b"%d" % len(body)))
        wire = body
    lines = b"".join(name + b":" + blank + value + blank + b"\r\n" for name, value in headers)
    return method + b" " + target + b" HTTP/1.1\r\n" + lines + b"\r\n" + wire, (method, target, headers, body)


@given(st.lists(messages(), min_size=1, max_size=4), cuts)
def test_pieces_give_what_the_whole_gives(
    sent: list[tuple[bytes, tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]]], cuts: list[int]
) -> None:
    requests = assemble(*split(b"".join(wire for wire, _ in sent), cuts))
    assert requests.refusal is None
    assert [(r.method, r.target, r.headers, r.body) for r in requests.found] == [said for _, said in sent]
    assert all(request.keep for request in requests.found)
    assert not requests.in_head


@given(messages())
def test_bytes_one_by_one_give_what_the_whole_gives(
    sent: tuple[bytes, tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]],
) -> None:
    wire, _ = sent
    assert assemble(*split(wire, list(range(len(wire))))).found == assemble(wire).found


@given(st.binary(max_size=400), cuts)
@example(b"POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\nUpgrade: y\r\n\r\n", [])
def test_any_bytes_give_requests_or_one_refusal_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    whole, cut = assemble(data), assemble(*split(data, cuts))
    assert (whole.found, whole.begun) == (cut.found, cut.begun)
    assert (whole.refusal is None) == (cut.refusal is None)


@given(messages(), st.integers(0, 4000), st.binary(min_size=1, max_size=3), cuts)
@settings(max_examples=300)
def test_a_damaged_request_never_passes_as_two_different_ones(
    sent: tuple[bytes, tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]], at: int, damage: bytes, cuts: list[int]
) -> None:
    wire, _ = sent
    at %= len(wire)
    data = wire[:at] + damage + wire[at + len(damage) :]
    whole, cut = assemble(data), assemble(*split(data, cuts))
    assert (whole.found, whole.begun) == (cut.found, cut.begun)
    assert (whole.refusal is None) == (cut.refusal is None)


def test_trailers_do_not_become_headers_of_the_next_request() -> None:
    first = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Evil: 1\r\n\r\n"
    requests = assemble(first + b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [request.headers[1:] for request in requests.found] == [[(b"Transfer-Encoding", b"chunked")], []]


@pytest.mark.parametrize(
    "body", [b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_offer_to_upgrade_is_ignored_and_the_body_read(body: bytes, size: int) -> None:
    wire = b"POST /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + body
    wire += b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n"
    requests = assemble(*[wire[at : at + size] for at in range(0, len(wire), size)])
    assert requests.refusal is None
    assert [(request.target, request.body) for request in requests.found] == [(b"/a", b"hi"), (b"/b", b"")]
    assert b"Upgrade" not in [name for name, _ in requests.found[0].headers]


def test_a_target_in_absolute_form_gives_path_and_host() -> None:
    wire = b"GET http://other:81/a?b HTTP/1.1\r\nHost: h\r\n\r\nGET HTTP://other?x HTTP/1.1\r\nhost: h\r\n\r\n"
    first, second = assemble(wire).found
    assert (first.target, first.headers) == (b"/a?b", [(b"Host", b"other:81")])
    assert (second.target, second.headers) == (b"/?x", [(b"host", b"other")])


def test_http_1_0_and_connection_close_end_the_connection() -> None:
    def keep(head: bytes) -> bool:
        (request,) = assemble(head + b"\r\n").found
        return request.keep

    assert keep(b"GET / HTTP/1.1\r\nHost: h\r\n")
    assert not keep(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n")
    assert not keep(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, close\r\n")
    assert not keep(b"GET / HTTP/1.0\r\n")
    assert keep(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n")


SMALL = Limits(max_header_bytes=1000, max_headers=10, max_target_bytes=100)


@pytest.mark.parametrize("size", [1, 50, 900, 1900, 100_000])
@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"b" * 2000 + b"\r\n\r\n", 431, id="long value"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"b" * 2000 + b": a\r\n\r\n", 431, id="long name"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: b\r\n" * 10 + b"\r\n", 431, id="many headers"),
        pytest.param(b"GET /" + b"a" * 101 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414, id="long target"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 70_000,
            431,
            id="endless trailers",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2;" + b"a" * 400_000,
            431,
            id="endless chunk extension",
        ),
    ],
)
def test_limits_hold_however_the_bytes_come(head: bytes, status: int, size: int) -> None:
    requests = assemble(*[head[at : at + size] for at in range(0, len(head), size)], limits=SMALL)
    assert requests.refusal is not None
    assert requests.refusal.status == status
    assert "limit" in requests.refusal.sentence or "more than" in requests.refusal.sentence


def test_a_head_that_never_ends_is_not_kept() -> None:
    requests = Requests(SMALL)
    fed = 0
    while not requests.deaf:
        requests.feed(b"GET / HTTP/1.1\r\nHost: h\r\nA: " if not fed else b"b" * 100)
        fed += 100
    assert fed < 2000


@pytest.mark.parametrize("blank", [b"\t", b" \t ", b"\t\t"])
def test_tabs_around_a_value_are_not_part_of_it(blank: bytes) -> None:
    wire = b"POST / HTTP/1.1\r\nHost:\th\r\nA:%bb\tc%b\r\nContent-Length:%b2%b\r\n\r\nhi" % ((blank,) * 4)
    (request,) = assemble(wire).found
    assert request.headers == [(b"Host", b"h"), (b"A", b"b\tc"), (b"Content-Length", b"2")]
    assert request.body == b"hi"


def test_64_kb_of_cookies_pass() -> None:
    cookies = [(b"Cookie", b"c%d=" % number + b"x" * 4000) for number in range(16)]
    lines = b"".join(b"%b: %b\r\n" % cookie for cookie in cookies)
    (request,) = assemble(b"GET / HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n").found
    assert request.headers[1:] == cookies
