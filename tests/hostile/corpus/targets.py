"""Targets: their four forms, percent-encodings, dot segments, and the names of functions in them."""

from __future__ import annotations

from tests.hostile.case import AFTER, Case, post, refused


def _passes(rest: bytes) -> Case:
    return Case(f"passes as sent: {rest.decode()!r}", post(target=b"/function/mirror" + rest, body=b"hi"), (200,))


def _nameless(target: bytes, status: int = 400) -> Case:
    """No function's name: answered by the gateway, and the connection goes on."""
    shown = target.decode("latin-1")
    return Case(f"no function: {shown!r}", post(target=target) + AFTER, (status, 200))


TARGETS = [
    *(
        _passes(rest)
        for rest in (
            b"",
            b"/",
            b"//",
            b"//evil.example/",
            b"/a/../b",
            b"/..",
            b"/../../system/functions",
            b"/./a",
            b"/%2e%2e/%2E%2E/system",
            b"/..%2fsystem",
            b"/..%5csystem",
            b"/..;/system",
            b"/a%2Fb",
            b"/a%252Fb",
            b"/%00",
            b"/%0d%0aX:%20y",
            b"/%3Fx=1",
            b"/%zz",
            b"/%",
            b"/%u0041",
            b"/%ff%fe",
            b"/%c0%af",
            b"/a+b",
            b"/a\\b",
            b"/a|b^c`d{e}<f>",
            b'/"a"',
            b"/a;b=c",
            b"/http://evil.example/",
            b"/_/health",
            b"?",
            b"??",
            b"?a=%00&a=&a&=b&&",
            b"?a=/../b",
            b"?http://evil.example",
            b"/?a#b",
            b"/#fragment",
            b"/a?b?c",
        )
    ),
    Case("absolute form", post(target=b"http://other.example/function/mirror/a?b"), (200,)),
    Case("absolute form in capitals", post(target=b"HTTP://OTHER.example:81/function/mirror"), (200,)),
    Case("absolute form with https", post(target=b"https://other.example/function/mirror"), (200,)),
    Case("absolute form of an IPv6 address", post(target=b"http://[::1]:8080/function/mirror"), (200,)),
    Case("absolute form with dot segments", post(target=b"http://h/function/mirror/../a"), (200,)),
    refused("absolute form with a user", post(target=b"http://u@h/function/mirror")),
    refused("absolute form with user and password", post(target=b"http://u:p@h/function/mirror")),
    refused("absolute form without a host", post(target=b"http:///function/mirror")),
    refused("absolute form with two ports", post(target=b"http://h:1:2/function/mirror")),
    refused("absolute form with a name for a port", post(target=b"http://h:x/function/mirror")),
    refused("absolute form with half an address", post(target=b"http://[::1/function/mirror")),
    refused("absolute form of another scheme", post(target=b"ftp://h/function/mirror")),
    refused("absolute form of a file", post(target=b"file:///function/mirror")),
    refused("absolute form without slashes", post(target=b"http:h/function/mirror")),
    refused("a path without a slash", post(target=b"function/mirror")),
    refused("a query alone", post(target=b"?/function/mirror")),
    refused("authority form", post(target=b"h:80")),
    refused("asterisk form of POST", post(target=b"*")),
    Case("asterisk form of OPTIONS", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n" + AFTER, (404, 200)),
]

NAMES = [
    *(
        _nameless(target)
        for target in (
            b"/function/",
            b"/function//mirror",
            b"/function/?x",
            b"/function/%6dirror",
            b"/function/mirror%00",
            b"/function/mirror%2f",
            b"/function/mirror%20",
            b"/function/mirror;a=b",
            b"/function/mirror:80/",
            b"/function/mirror@evil.example/",
            b"/function/mirror\\",
            b"/function/mirror#x",
            b"/function/*",
            b"/function/$(id)",
            b"/function/mirror,mirror",
            b"/function/" + b"a" * 254,
            b"/function/" + b"a" * 8000,
        )
    ),
    *(
        _nameless(target, 404)
        for target in (
            b"/function/nobody",
            b"/function/Mirror",
            b"/function/mirror.elsewhere",
            b"/function/mirror.",
            b"/function/.mirror",
            b"/function/.",
            b"/function/..",
            b"/function/../system/functions",
            b"/function/...",
            b"/function/-",
            b"/function/_",
            b"/function/" + b"a" * 253,
        )
    ),
    Case("the namespace named", post(target=b"/function/mirror.openfaas-fn/a", body=b"hi"), (200,)),
    *(
        Case(f"another route: {target.decode()!r}", post(target=target) + AFTER, (404, 200), stored=())
        for target in (
            b"//function/mirror",
            b"/Function/mirror",
            b"/functions/mirror",
            b"/%66unction/mirror",
            b"/./function/mirror",
            b"/a/../function/mirror",
            b"/function%2fmirror",
            b"/function\\mirror",
        )
    ),
]
