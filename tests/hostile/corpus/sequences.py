"""Several messages on one connection: expectations, pipelines, half-closed connections."""

from __future__ import annotations

from tests.hostile.case import AFTER, CHUNKED, GET, HI, POST, Case, Seen, chunked, post, refused

_EXPECT = b"Expect: 100-continue\r\n"

EXPECTATIONS = [
    Case(
        "the go-ahead, then the body",
        POST + _EXPECT + b"Content-Length: 2\r\n\r\n",
        (100, 200, 200),
        later=b"hi" + AFTER,
    ),
    Case("the go-ahead for chunks", POST + _EXPECT + CHUNKED + b"\r\n", (100, 200, 200), later=HI + AFTER),
    Case("in capitals", POST + b"Expect: 100-CONTINUE\r\nContent-Length: 2\r\n\r\n", (100, 200), later=b"hi"),
    Case("a body that did not wait", POST + _EXPECT + b"Content-Length: 2\r\n\r\nhi" + AFTER, (100, 200, 200)),
    Case("nothing to go ahead with", POST + _EXPECT + b"Content-Length: 0\r\n\r\n" + AFTER, (200, 200)),
    Case("on GET", GET + _EXPECT + b"\r\n" + AFTER, (200, 200), stored=(405, 202)),
    Case("twice", POST + _EXPECT + _EXPECT + b"Content-Length: 2\r\n\r\nhi", (100, 200)),
    Case(
        "a body that would be too large",
        POST + _EXPECT + b"Content-Length: 99999999\r\n\r\n",
        (100,),
        stored=(413,),
        ends=True,
    ),
    refused("another expectation", POST + b"Expect: tea\r\nContent-Length: 2\r\n\r\nhi", 417),
    refused("an expectation and more", POST + b"Expect: 100-continue, tea\r\nContent-Length: 2\r\n\r\nhi", 417),
    refused("an empty expectation", POST + b"Expect:\r\nContent-Length: 2\r\n\r\nhi", 417),
    Case(
        "for a function that is not there: no go-ahead, and the connection closes",
        b"POST /function/nobody HTTP/1.1\r\nHost: h\r\n" + _EXPECT + b"Content-Length: 2\r\n\r\n",
        (404,),
    ),
    Case(
        "with an id that cannot be used: no go-ahead",
        POST + _EXPECT + b"X-Call-Id: a/b\r\nContent-Length: 2\r\n\r\n",
        (400,),
    ),
]

PIPELINES = [
    Case("two at once", post(body=b"one") + post(body=b"two"), (200, 200)),
    Case("fifty at once", b"".join(post(target=b"/function/mirror/%d" % n) for n in range(50)), (200,) * 50),
    Case("chunks and lengths in turn", (chunked(HI) + post(body=b"hi")) * 5, (200,) * 10),
    Case(
        "an unknown function among others", AFTER + post(target=b"/function/nobody", body=b"x") + AFTER, (200, 404, 200)
    ),
    Case("a bad request ends the line", AFTER + AFTER + POST + b"X : a\r\n\r\n" + AFTER, (200, 200, 400)),
    Case("a bad body ends the line", AFTER + chunked(b"zz\r\n") + AFTER, (200, 400)),
    Case(
        "HEAD among others",
        AFTER + b"HEAD /function/mirror HTTP/1.1\r\nHost: h\r\n\r\n" + AFTER,
        (200,) * 3,
        stored=(202, 405, 202),
    ),
    Case("GET among others", AFTER + GET + b"\r\n" + AFTER, (200,) * 3, stored=(202, 405, 202)),
    Case("close in the middle", AFTER + post(b"Connection: close") + AFTER, (200, 200)),
    Case(
        "HTTP/1.0 in the middle",
        AFTER + b"POST /function/mirror HTTP/1.0\r\nContent-Length: 0\r\n\r\n" + AFTER,
        (200, 200),
    ),
    Case(
        "a route of the gateway's own among others",
        AFTER + b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n" + AFTER,
        (200, 200, 200),
        stored=(),
    ),
    Case(
        "the administration among others",
        AFTER + b"GET /system/functions HTTP/1.1\r\nHost: nobody\r\n\r\n" + AFTER,
        (200, 403, 200),
    ),
    Case(
        "too many at once",
        b"".join(post(target=b"/function/mirror/%d" % n) for n in range(400)),
        (200,) * 129 + (400,),
        stored=(),
    ),
]

ENDINGS = [
    Case("letters behind a body", post(body=b"hi") + b"more", (200, 400)),
    Case("bytes behind a body", post(body=b"hi") + b"\x00\x01\x02", (200, 400)),
    Case(
        "line ends behind a body",
        post(body=b"hi") + b"\r\n\r\n",
        (200,),
        seen=(Seen(b"POST", b"/", b"hi"),),
        why="RFC 9112, section 2.2: a server should ignore an empty line before a request",
    ),
    Case("a body longer than its length by a request", post(body=b"hi") + HI + AFTER, (200, 400)),
    Case("chunks behind the last chunk", chunked(HI) + HI, (200, 400)),
]
