"""Request lines: their blanks, versions and methods."""

from __future__ import annotations

from tests.hostile.case import AFTER, HOST, Case, Seen, post, refused

_F = b"/function/mirror"
_SEEN = (Seen(b"POST", b"/", b""),)
_EMPTY = "RFC 9112, section 2.2: a server should ignore an empty line before a request"
_BLANKS = "RFC 9112, section 3, lets a server split the line at any blanks; the target itself has none either way"

REQUEST_LINES = [
    Case(
        "two spaces before the target",
        b"POST  " + _F + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        (200,),
        seen=_SEEN,
        why=_BLANKS,
    ),
    Case(
        "two spaces after the target",
        b"POST " + _F + b"  HTTP/1.1\r\n" + HOST + b"\r\n",
        (200,),
        seen=_SEEN,
        why=_BLANKS,
    ),
    refused("a space before the method", b" POST " + _F + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("a tab after the method", b"POST\t" + _F + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("a tab after the target", b"POST " + _F + b"\tHTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("a form feed after the target", b"POST " + _F + b"\x0cHTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("a space after the version", b"POST " + _F + b" HTTP/1.1 \r\n" + HOST + b"\r\n"),
    refused("a fourth word", b"POST " + _F + b" x HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("no target", b"POST HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("an empty target", b"POST  HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("nothing but a method", b"POST\r\n" + HOST + b"\r\n"),
    refused("bare LF after the line", b"POST " + _F + b" HTTP/1.1\n" + HOST + b"\r\n"),
    refused("bare CR after the line", b"POST " + _F + b" HTTP/1.1\r" + HOST + b"\r\n"),
    refused("CR CR LF after the line", b"POST " + _F + b" HTTP/1.1\r\r\n" + HOST + b"\r\n"),
    refused("NUL in the target", b"POST " + _F + b"/\0 HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("bare CR in the target", b"POST " + _F + b"/\ra HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("bare LF in the target", b"POST " + _F + b"/\na HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("a control character in the target", b"POST " + _F + b"/\x01 HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("DEL in the target", b"POST " + _F + b"/\x7f HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("a letter outside ASCII in the target", b"POST " + _F + b"/\xe4 HTTP/1.1\r\n" + HOST + b"\r\n"),
    Case(
        "blank lines before the request",
        b"\r\n\r\n" + post(body=b"hi"),
        (200,),
        seen=(Seen(b"POST", b"/", b"hi"),),
        why=_EMPTY,
    ),
    Case(
        "blank lines between requests",
        post(body=b"hi") + b"\r\n\r\n" + AFTER,
        (200, 200),
        seen=(Seen(b"POST", b"/", b"hi"), Seen(b"POST", b"/after", b"after")),
        why=_EMPTY,
    ),
    refused("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300),
    refused("SSH on the port", b"SSH-2.0-OpenSSH_9.9\r\n"),
    refused("SOCKS on the port", b"\x05\x01\x00"),
    refused("a proxy protocol line", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
    refused("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("an answer instead of a request", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    refused("random bytes", bytes(range(255, 0, -1))),
]


def _version(version: bytes) -> bytes:
    return b"POST " + _F + b" " + version + b"\r\n" + HOST + b"Content-Length: 2\r\n\r\nhi"


VERSIONS = [
    Case("HTTP/1.0 closes after its answer", _version(b"HTTP/1.0") + AFTER, (200,)),
    Case(
        "HTTP/1.0 with keep-alive",
        b"POST " + _F + b" HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi" + AFTER,
        (200, 200),
        seen=(Seen(b"POST", b"/", b"hi"), Seen(b"POST", b"/after", b"after")),
        why="h11 never keeps an HTTP/1.0 connection; RFC 9112, appendix C.2.2, describes it",
    ),
    Case("HTTP/1.0 without a host", b"POST " + _F + b" HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", (200,)),
    Case(
        "HTTP/1.0 with an expectation",
        _version(b"HTTP/1.0").replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"),
        (200,),
    ),
    refused("HTTP/1.1 without a host", b"POST " + _F + b" HTTP/1.1\r\n\r\n"),
    refused("HTTP/2.0", _version(b"HTTP/2.0"), 505),
    refused("HTTP/0.9", _version(b"HTTP/0.9"), 505),
    refused("HTTP/3.0", _version(b"HTTP/3.0")),
    refused("HTTP/1.2", _version(b"HTTP/1.2")),
    refused("HTTP/1.10", _version(b"HTTP/1.10")),
    refused("HTTP/01.1", _version(b"HTTP/01.1")),
    refused("HTTP/1", _version(b"HTTP/1")),
    refused("HTTP/1.", _version(b"HTTP/1.")),
    refused("HTTP/1,1", _version(b"HTTP/1,1")),
    refused("HTTP/11", _version(b"HTTP/11")),
    refused("HTTP 1.1", _version(b"HTTP 1.1")),
    refused("HTTP/x.y", _version(b"HTTP/x.y")),
    refused("http/1.1 in small letters", _version(b"http/1.1")),
    refused("HTTPS/1.1", _version(b"HTTPS/1.1")),
    refused("no version at all", b"POST " + _F + b"\r\n" + HOST + b"\r\n", 505),
    refused("ICE/1.0", _version(b"ICE/1.0")),
    Case(
        "RTSP/1.0 is read as HTTP/1.0",
        _version(b"RTSP/1.0"),
        (200,),
        seen=(Seen(b"POST", b"/", b"hi"),),
        why="llhttp takes RTSP's version for HTTP's; the message is framed the same, so nothing can be hidden in it",
    ),
]


def _method(method: bytes, *, body: bytes = b"hi") -> bytes:
    return method + b" " + _F + b" HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


METHODS = [
    *(
        Case(method.decode(), _method(method) + AFTER, (200, 200), stored=(405, 202))
        for method in (b"PUT", b"PATCH", b"OPTIONS", b"TRACE", b"PROPFIND", b"M-SEARCH", b"PURGE", b"REPORT")
    ),
    Case("GET with a body", _method(b"GET") + AFTER, (200, 200), stored=(405, 202)),
    Case("DELETE with a body", _method(b"DELETE") + AFTER, (200, 200), stored=(405, 202)),
    Case("HEAD with a body", _method(b"HEAD") + AFTER, (200, 200), stored=(405, 202)),
    Case("HEAD without one", _method(b"HEAD", body=b"") + AFTER, (200, 200), stored=(405, 202)),
    *(
        refused(f"method {method!r}", _method(method))
        for method in (
            b"post",
            b"Post",
            b"POST\0",
            b"P\xd6ST",
            b"FOO",
            b"POSTS",
            b"POS",
            b"(POST)",
            b"",
            b"GET,POST",
            b"X" * 9000,
        )
    ),
    refused("CONNECT", b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 501),
    refused("CONNECT to a path", _method(b"CONNECT"), 501),
    refused("PRI to a path", _method(b"PRI")),
    refused("DESCRIBE of RTSP", _method(b"DESCRIBE")),
]
