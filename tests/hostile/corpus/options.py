"""Headers that Holdfast itself reads, and those that must not travel on."""

from __future__ import annotations

from tests.hostile.case import AFTER, Case, post


def _both(name: str, *lines: bytes) -> Case:
    """Refused on both paths, and the connection goes on."""
    return Case(name, post(*lines, body=b"hi") + AFTER, (400, 200))


def _stored(name: str, *lines: bytes, status: int = 400) -> Case:
    """Refused where it is read, which is the asynchronous path only."""
    return Case(name, post(*lines, body=b"hi") + AFTER, (200, 200), stored=(status, 202))


OPTIONS = [
    _both("a call id with a slash", b"X-Call-Id: a/b"),
    _both("a call id with a dot", b"X-Call-Id: a.b"),
    _both("a call id with wildcards of NATS", b"X-Call-Id: a.*.>"),
    _both("a call id with a blank", b"X-Call-Id: a b"),
    _both("a call id that is too long", b"X-Call-Id: " + b"a" * 129),
    _both("a call id of 60 KB", b"X-Call-Id: " + b"a" * 60_000),
    _both("a call id outside ASCII", b"X-Call-Id: \xe4"),
    _both("two call ids", b"X-Call-Id: one", b"X-Call-Id: two"),
    _both("X-Timeout that is no duration", b"X-Timeout: soon"),
    _both("X-Timeout below zero", b"X-Timeout: -1s"),
    _both("X-Timeout that is not a number", b"X-Timeout: NaNs"),
    _both("X-Timeout of infinity", b"X-Timeout: Infinity"),
    _both("X-Timeout with digits of another alphabet", b"X-Timeout: \xd9\xa1s"),
    _both("two timeouts", b"X-Timeout: 1s", b"X-Timeout: 2s"),
    Case("a huge X-Timeout is cut to the limit", post(b"X-Timeout: 99999999h"), (200,), stored=(400,)),
    _stored("a delay that is no duration", b"X-Delay: soon"),
    _stored("a delay below zero", b"X-Delay: -5s"),
    _stored("a delay of a thousand years", b"X-Delay: 8760000h"),
    _stored("a delay of forty digits", b"X-Delay: " + b"9" * 40 + b"s"),
    _stored("a delay of five thousand digits", b"X-Delay: " + b"9" * 5000 + b"s"),
    _stored("two delays", b"X-Delay: 1s", b"X-Delay: 2h"),
    _stored("an expiry of zero", b"X-Expires-After: 0s"),
    _stored("an empty key", b"Idempotency-Key:"),
    _stored("a key with a blank", b"Idempotency-Key: a b"),
    _stored("a key of 256 bytes", b"Idempotency-Key: " + b"k" * 256),
    _stored("a key beside an id", b"Idempotency-Key: k", b"X-Call-Id: own"),
    _stored("two keys", b"Idempotency-Key: one", b"Idempotency-Key: two"),
    _stored("a callback without a scheme", b"X-Callback-Url: example.com/done"),
    _stored("a callback of another scheme", b"X-Callback-Url: gopher://example.com/"),
    _stored("a callback to a file", b"X-Callback-Url: file:///etc/passwd"),
    _stored("a callback with a user", b"X-Callback-Url: http://u:p@example.com/"),
    _stored("a callback to the metadata service", b"X-Callback-Url: http://169.254.169.254/"),
    _stored("a callback to it, in octal", b"X-Callback-Url: http://0251.0376.0251.0376/"),
    _stored("a callback to it, within IPv6", b"X-Callback-Url: http://[::ffff:a9fe:a9fe]/"),
    _stored("a callback with a zone", b"X-Callback-Url: http://[fe80::1%25eth0]/"),
    _stored("a callback to port 0", b"X-Callback-Url: http://example.com:0/"),
    _stored("a callback to a port beyond", b"X-Callback-Url: http://example.com:65536/"),
    _stored("a callback with a blank", b"X-Callback-Url: http://example.com/a b"),
    _stored("a callback outside ASCII", b"X-Callback-Url: http://ex\xc3\xa4mple.com/"),
    _stored("a callback with a wide dot", b"X-Callback-Url: http://127\xe3\x80\x820\xe3\x80\x820\xe3\x80\x821/"),
    _stored("a callback that is too long", b"X-Callback-Url: http://example.com/" + b"a" * 9000),
    _stored("a callback to the administration", b"X-Callback-Url: /system/functions"),
    _stored("a callback that climbs out of a function", b"X-Callback-Url: /function/mirror/../../system/functions"),
    _stored("two callbacks", b"X-Callback-Url: /function/mirror", b"X-Callback-Url: /function/nobody"),
    _stored("a bad failure callback", b"X-Failure-Callback-Url: example.com"),
    _stored("a depth that is no number", b"X-Holdfast-Depth: one"),
    _stored("a depth below zero", b"X-Holdfast-Depth: -1"),
    _stored("a depth beyond the limit", b"X-Holdfast-Depth: 16", status=508),
    _stored("a depth of nine digits", b"X-Holdfast-Depth: 999999999", status=508),
    _stored("two depths", b"X-Holdfast-Depth: 1", b"X-Holdfast-Depth: 0"),
    Case("a start time of the caller's is replaced", post(b"X-Start-Time: 1", b"X-Start-Time: x"), (200,)),
    Case("X-Forwarded-For twice", post(b"X-Forwarded-For: 192.0.2.1", b"X-Forwarded-For: 192.0.2.2"), (200,)),
]

HOP_BY_HOP = [
    Case("Connection: close", post(b"Connection: close", body=b"hi") + AFTER, (200,)),
    Case("Connection: CLOSE among others", post(b"Connection: x, CLOSE ,y", body=b"hi") + AFTER, (200,)),
    Case("Connection: close and keep-alive", post(b"Connection: close, keep-alive", body=b"hi") + AFTER, (200,)),
    Case("Connection twice", post(b"Connection: keep-alive", b"Connection: close", body=b"hi") + AFTER, (200,)),
    Case(
        "Connection names a header", post(b"Connection: X-One, x-TWO", b"X-One: 1", b"X-Two: 2", b"X-Three: 3"), (200,)
    ),
    Case("Connection names the host", post(b"Connection: host", body=b"hi") + AFTER, (200, 200)),
    Case("Connection names the length", post(b"Connection: content-length", body=b"hi") + AFTER, (200, 200)),
    Case(
        "Connection names our headers", post(b"Connection: X-Call-Id, X-Forwarded-For", b"X-Forwarded-For: a"), (200,)
    ),
    Case("Connection of nothing", post(b"Connection: ,, ,", body=b"hi") + AFTER, (200, 200)),
    Case(
        "an offer of HTTP/2",
        post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA", body=b"hi") + AFTER,
        (200, 200),
    ),
    Case("an offer of WebSocket", post(b"Connection: Upgrade", b"Upgrade: websocket", body=b"hi") + AFTER, (200, 200)),
    Case(
        "an offer made twice",
        post(b"Connection: Upgrade", b"Upgrade: a", b"Upgrade: b", body=b"hi") + AFTER,
        (200, 200),
    ),
    Case("an upgrade without Connection", post(b"Upgrade: h2c", body=b"hi") + AFTER, (200, 200)),
    Case(
        "headers for proxies",
        post(b"Proxy-Authorization: Basic YTpi", b"Proxy-Connection: keep-alive", body=b"hi") + AFTER,
        (200, 200),
    ),
    Case(
        "Keep-Alive, TE and Trailer",
        post(b"Keep-Alive: timeout=5", b"TE: trailers", b"Trailer: X", body=b"hi") + AFTER,
        (200, 200),
    ),
    Case("Proxy of CGI", post(b"Proxy: http://evil.example", body=b"hi") + AFTER, (200, 200)),
    Case("a method in a header", post(b"X-HTTP-Method-Override: DELETE", body=b"hi") + AFTER, (200, 200)),
    Case(
        "a path in a header",
        post(b"X-Original-URL: /system/functions", b"X-Rewrite-URL: /", body=b"hi") + AFTER,
        (200, 200),
    ),
    Case("a range", post(b"Range: bytes=0-0," + b"1-1," * 500, body=b"hi") + AFTER, (200, 200)),
]
