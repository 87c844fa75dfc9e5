"""The rules of a request head, and how an answer is framed. No I/O, no clock, no state.

llhttp, below httptools, refuses by itself: bare LF and bare CR, obs-fold, control characters in values, names that are
not tokens (white space before the colon included), `Content-Length` together with `Transfer-Encoding`, more than one
`Content-Length` even when they agree, a length that is not all digits (`+5`, `1_0`, `5, 5`), a coding after `chunked`,
malformed chunks. tests/unit/http1/test_what_the_parser_refuses.py holds it to that. What it lets pass and RFC 9112
does not is refused here.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from holdfast.headers import RawHeaders
from holdfast.http1.limits import Limits
from holdfast.http1.message import status_line

BODILESS = frozenset({204, 304})
CLOSE = b"Connection: close\r\n"
KEEP_ALIVE = b"Connection: keep-alive\r\n"


# 2**64 - 1 has twenty digits; what int() makes of thousands is an error.
MOST_LENGTH_DIGITS = 20
# RFC 3986, section 3.2: a host and a port, both of which may be empty.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[-A-Za-z0-9._~%!$&'()*+,;=]*)(?::[0-9]*)?")
# A name has at most 253 letters; an address with its port is shorter.
_MOST_HOST_BYTES = 300


class Refusal(NamedTuple):
    """An answer of the lane itself: the status and one sentence for its body."""

    status: int
    sentence: str
    retry_after_s: int = 0
    """When to try again; 0: the same request would be refused again."""


def judge(
    method: bytes,
    target: bytes,
    headers: RawHeaders,
    fields: dict[bytes, bytes],
    *,
    version: str,
    limits: Limits,
) -> Refusal | None:
    """Whether a complete request head can be taken; None: it can. HOT: about 0.6 µs.

    `fields` are the headers by lower-case name.
    """
    if len(headers) > limits.max_headers:
        return Refusal(
            431, f"The request has {len(headers)} header lines, more than the limit of {limits.max_headers}."
        )
    if len(target) > limits.max_target_bytes:
        return target_too_long(limits)
    if version != "1.1" and version != "1.0":  # noqa: PLR1714 - a tuple costs more, and this is hot
        return Refusal(505, "This server speaks HTTP/1.1 and HTTP/1.0.")
    if len(fields) != len(headers) and sum(name.lower() == b"host" for name, _ in headers) > 1:
        # Which of two hosts counts is read differently by different servers: RFC 9112, section 3.2.
        return Refusal(400, "The request has more than one Host header.")
    host = fields.get(b"host")
    if host is None:
        if version == "1.1":
            return Refusal(400, "The request has no Host header.")
    elif len(host) > _MOST_HOST_BYTES or not is_host(host):
        return Refusal(400, "The Host header is neither a name nor an address.")
    if method == b"CONNECT":
        # Whatever its target: a client takes what follows a 2xx for the tunnel's bytes, not for an answer.
        return Refusal(501, "This server is not a proxy: CONNECT is not implemented.")
    if target[:1] != b"/":
        refusal = _judge_target(method, target)
        if refusal is not None:
            return refusal
    length = fields.get(b"content-length")
    if length is not None and len(length) > MOST_LENGTH_DIGITS:
        return Refusal(400, f"The Content-Length has more than {MOST_LENGTH_DIGITS} digits.")
    if b"transfer-encoding" in fields:
        if version != "1.1":
            # RFC 9112, section 6.1: the framing of such a message is faulty.
            return Refusal(400, "Transfer-Encoding cannot be used with HTTP/1.0.")
        # Several lines of it, the last being chunked, pass llhttp.
        codings = [value for name, value in headers if name.lower() == b"transfer-encoding"]
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            return Refusal(501, "The only transfer coding this server knows is chunked.")
    if b"expect" in fields and fields[b"expect"].lower() != b"100-continue":
        return Refusal(417, "The only expectation this server can meet is 100-continue.")
    return None


def _judge_target(method: bytes, target: bytes) -> Refusal | None:
    if (target == b"*" and method == b"OPTIONS") or absolute_form(target) is not None:
        return None
    return Refusal(400, "The request target is neither a path nor an http URL.")


@lru_cache(maxsize=1024)
def is_host(value: bytes) -> bool:
    """Whether the bytes may stand in a Host header. HOT: 60 ns for one that was seen before."""
    return _HOST.fullmatch(value) is not None


def absolute_form(target: bytes) -> tuple[bytes, bytes] | None:
    """Split `http://authority/path?query` into authority and path with query; None when it is not such a target.

    A server must take the form that proxies get, and then the authority counts instead of Host: RFC 9112, section
    3.2.2.
    """
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return None
    end = min((at for at in (rest.find(b"/"), rest.find(b"?"), rest.find(b"#")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if not authority or len(authority) > _MOST_HOST_BYTES or not is_host(authority):
        return None
    return authority, path if path[:1] == b"/" else b"/" + path


def head_size(target: bytes, headers: RawHeaders) -> int:
    """The bytes of a request head, white space around values aside."""
    return len(target) + 16 + sum(len(name) + len(value) + 4 for name, value in headers)


def head_too_large(limits: Limits) -> Refusal:
    """The refusal of a head beyond max_header_bytes."""
    return Refusal(431, f"The request head is larger than the limit of {limits.max_header_bytes} bytes.")


def target_too_long(limits: Limits) -> Refusal:
    """The refusal of a target beyond max_target_bytes."""
    return Refusal(414, f"The request target is longer than the limit of {limits.max_target_bytes} bytes.")


def body_too_large(limit: int) -> Refusal:
    """The refusal of a body beyond what the application takes."""
    return Refusal(413, f"The request body is larger than the limit of {limit} bytes.")


def bodies_too_large(limit: int) -> Refusal:
    """The refusal of a body that would fit if others were not held at the same time."""
    return Refusal(503, f"The server holds {limit} bytes of request bodies, its limit: try again shortly.", 1)


def not_http(reason: str) -> Refusal:
    """The refusal of bytes that cannot be parsed; `reason` is the parser's."""
    return Refusal(400, f"The request is not valid HTTP/1.1: {reason}.")


def refusal_message(refusal: Refusal, lines: bytes, *, with_body: bool = True) -> bytes:
    """The whole answer of a refusal, with these header lines; it always ends the connection."""
    body = refusal.sentence.encode() + b"\n"
    return b"%bContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n%b%b%b\r\n%b" % (
        status_line(refusal.status),
        len(body),
        b"Retry-After: %d\r\n" % refusal.retry_after_s if refusal.retry_after_s else b"",
        lines,
        CLOSE,
        body if with_body else b"",
    )


class BodyFraming(Enum):
    """How the end of a body is told to the other side."""

    NONE = 1
    """There is no body, as with HEAD, 204 and 304; or it is part of the message already."""
    LENGTH = 2
    """By Content-Length."""
    CHUNKED = 3
    """By the chunked coding."""
    UNTIL_CLOSE = 4
    """By the end of the connection: HTTP/1.0, length unknown."""


def answer_framing(method: bytes, version: str, status: int, length: int | None) -> BodyFraming:
    """Which framing a streamed answer gets."""
    if method == b"HEAD" or status in BODILESS:
        return BodyFraming.NONE
    if length is not None:
        return BodyFraming.LENGTH
    return BodyFraming.CHUNKED if version == "1.1" else BodyFraming.UNTIL_CLOSE


def framing_line(kind: BodyFraming, status: int, length: int | None) -> bytes:
    """The header line that announces the framing. HEAD tells the length that GET would have; a 204 never has one."""
    if length is not None and status != 204:
        return b"Content-Length: %d\r\n" % length
    return b"Transfer-Encoding: chunked\r\n" if kind is BodyFraming.CHUNKED else b""
