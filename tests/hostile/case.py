"""One odd request of the corpus, and what must become of it.

A case is sent raw to `/function/mirror` and, where it makes sense, to `/async-function/mirror`. What the function then
received is compared with what h11, as a server, reads from the same bytes: the same, or the gateway refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_LINE = re.compile(rb"(^[^ \n]+ +(?:[A-Za-z]+://[^/ ]+)?)/function/", re.MULTILINE)
HOST = b"Host: h\r\n"
POST = b"POST /function/mirror HTTP/1.1\r\n" + HOST
GET = b"GET /function/mirror HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HI = b"2\r\nhi\r\n0\r\n\r\n"
"""The body `hi` in one chunk."""
AFTER = b"POST /function/mirror/after HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nafter"
"""A request behind the odd one: it must be answered as itself, or not at all."""


@dataclass(frozen=True)
class Seen:
    """What a function must have received of a request that h11 refuses to read and the gateway takes."""

    method: bytes
    target: bytes
    body: bytes


@dataclass(frozen=True)
class Case:
    """One connection's worth of bytes."""

    name: str
    sent: bytes
    answers: tuple[int, ...]
    """The statuses on the synchronous path, interim ones included; 200 is the function's. Empty: closed in silence."""
    stored: tuple[int, ...] | None = None
    """The same on the asynchronous path; None: 202 for each 200. Empty tuple and answers not: not sent there."""
    later: bytes = b""
    """Sent once the go-ahead (100) has come."""
    ends: bool = False
    """Whether the client ends its side after these bytes."""
    seen: tuple[Seen, ...] = ()
    """For a case that h11 refuses and the gateway takes: what the function gets. `why` says why that is safe."""
    why: str = ""

    @property
    def asynchronous(self) -> Case | None:
        """The case as it is sent to /async-function; None when it is not."""
        if self.stored == () and self.answers:
            return None
        stored = self.stored
        if stored is None:
            stored = tuple(202 if status == 200 else status for status in self.answers)
        sent, later = (_LINE.sub(rb"\1/async-function/", data) for data in (self.sent, self.later))
        return replace(self, sent=sent, later=later, answers=stored)


def post(*lines: bytes, body: bytes = b"", target: bytes = b"/function/mirror") -> bytes:
    """A whole POST with these header lines, framed by its length."""
    head = b"".join(line + b"\r\n" for line in lines)
    return b"POST %b HTTP/1.1\r\nHost: h\r\n%bContent-Length: %d\r\n\r\n%b" % (target, head, len(body), body)


def chunked(body: bytes, *lines: bytes) -> bytes:
    """A POST whose chunked body is exactly these bytes."""
    return POST + b"".join(line + b"\r\n" for line in lines) + CHUNKED + b"\r\n" + body


def refused(name: str, sent: bytes, status: int = 400) -> Case:
    """Refused with this status; the request behind it is not read."""
    return Case(name, sent + AFTER, (status,))
