"""cases.md 4 as a table: what the parser below lets pass today and must refuse tomorrow, too."""

from __future__ import annotations

import pytest

from tests.unit.http1.assembled import assemble

HEAD = b"POST /a HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"A: b\nB: c\r\n", id="bare LF after a header"),
        pytest.param(b"A: b\rB: c\r\n", id="bare CR after a header"),
        pytest.param(b"A: b\r\n c\r\n", id="obs-fold"),
        pytest.param(b"A: b\r\n\tc\r\n", id="obs-fold with tab"),
        pytest.param(b" A: b\r\n", id="first header folded"),
        pytest.param(b"A: b\0c\r\n", id="NUL in a value"),
        pytest.param(b"A: b\x01c\r\n", id="control character in a value"),
        pytest.param(b"A: b\x7fc\r\n", id="DEL in a value"),
        pytest.param(b"A : b\r\n", id="space before the colon"),
        pytest.param(b"A\t: b\r\n", id="tab before the colon"),
        pytest.param(b": b\r\n", id="empty name"),
        pytest.param(b"A\xe9: b\r\n", id="name outside ASCII"),
        pytest.param(b"A(: b\r\n", id="name that is no token"),
        pytest.param(b"no colon\r\n", id="no colon"),
        pytest.param(b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", id="length and coding"),
        pytest.param(b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", id="coding and length"),
        pytest.param(b"Content-Length: 2\r\nContent-Length: 3\r\n", id="two lengths"),
        pytest.param(b"Content-Length: 2\r\nContent-Length: 2\r\n", id="the same length twice"),
        pytest.param(b"Content-Length: 2, 2\r\n", id="list of lengths"),
        pytest.param(b"Content-Length: +5\r\n", id="signed length"),
        pytest.param(b"Content-Length: -1\r\n", id="negative length"),
        pytest.param(b"Content-Length: 1_0\r\n", id="underscore in a length"),
        pytest.param(b"Content-Length: 0x2\r\n", id="hexadecimal length"),
        pytest.param(b"Content-Length: 2 2\r\n", id="blank in a length"),
        pytest.param(b"Content-Length: \r\n", id="empty length"),
        pytest.param(b"Content-Length: 99999999999999999999999\r\n", id="length beyond 64 bits"),
        pytest.param(b"Transfer-Encoding: \r\n", id="empty coding"),
        pytest.param(b"Transfer-Encoding: chunked, gzip\r\n", id="coding after chunked"),
        pytest.param(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", id="chunked twice"),
        pytest.param(b"Transfer-Encoding: chunked\x0b\r\n", id="vertical tab after chunked"),
        pytest.param(b"Host: other\r\n", id="two hosts"),
    ],
)
def test_a_head_that_two_servers_could_read_differently_is_refused(lines: bytes) -> None:
    requests = assemble(HEAD + lines + b"\r\n")
    assert requests.refusal is not None
    assert requests.refusal.status == 400
    assert not requests.found
    assert not requests.begun


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\nHost: h\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h:80:80\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: " + b"h" * 400 + b"\r\n\r\n", 400),
        (b"GET http://h:x/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: " + b"0" * 5000 + b"2\r\n\r\nhi", 400),
        (b"get / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"FOO / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /\xe9 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET path HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/11\r\nHost: h\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        (b"CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n", 501),
        (b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n", 417),
    ],
)
def test_what_this_server_does_not_speak_is_refused_with_the_status_that_says_so(head: bytes, status: int) -> None:
    requests = assemble(head)
    assert requests.refusal is not None
    assert requests.refusal.status == status
    assert requests.refusal.sentence.endswith(".")
    assert not requests.found


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"2\nhi\n0\n\n", id="bare LF after a size"),
        pytest.param(b"2;a=b\nhi\r\n0\r\n\r\n", id="bare LF after an extension"),
        pytest.param(b"0x2\r\nhi\r\n0\r\n\r\n", id="prefixed size"),
        pytest.param(b"+2\r\nhi\r\n0\r\n\r\n", id="signed size"),
        pytest.param(b"2 \r\nhi\r\n0\r\n\r\n", id="blank after a size"),
        pytest.param(b" 2\r\nhi\r\n0\r\n\r\n", id="blank before a size"),
        pytest.param(b"\r\n", id="empty size"),
        pytest.param(b"2\r\nhi0\r\n\r\n", id="no line end after the data"),
        pytest.param(b"2\r\nhiX\r\n0\r\n\r\n", id="more data than said"),
        pytest.param(b"fffffffffffffffff\r\nhi", id="size beyond 64 bits"),
        pytest.param(b"2\r\nhi\r\n0\r\nContent-Length: 3\r\n\r\n", id="length in a trailer"),
        pytest.param(b"2\r\nhi\r\n0\r\nA : b\r\n\r\n", id="malformed trailer"),
    ],
)
def test_a_chunked_body_that_two_servers_could_read_differently_is_refused(body: bytes) -> None:
    requests = assemble(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert requests.refusal is not None
    assert requests.refusal.status == 400
    assert not requests.found
