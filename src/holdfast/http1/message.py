"""HTTP/1.1 messages as bytes: request heads, status lines, header lines. No I/O.

Everything here guards against splitting: a name that is not a token or a value with CR, LF or NUL raises ValueError, so
that no header of a caller or of a function can become two. Limits and the rules of framing are server.py's and
client.py's.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

from holdfast.headers import RawHeaders, named_by_connection

# RFC 9110, section 5.6.2: what a method and a header name may consist of.
TOKEN_CHARACTERS = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
# The phrases of RFC 9110 where Python 3.11 still has those of RFC 7231.
_STATUS_LINES[413] = b"HTTP/1.1 413 Content Too Large\r\n"
_STATUS_LINES[414] = b"HTTP/1.1 414 URI Too Long\r\n"
_STATUS_LINES[421] = b"HTTP/1.1 421 Misdirected Request\r\n"
_STATUS_LINES[422] = b"HTTP/1.1 422 Unprocessable Content\r\n"


class Request(NamedTuple):
    """A request read back from its message."""

    method: bytes
    target: bytes
    headers: RawHeaders
    body: bytes


def status_line(status: int) -> bytes:
    """`HTTP/1.1 <status> <phrase>` with its line end; the phrase is empty for a status that has no name."""
    line = _STATUS_LINES.get(status)
    if line is None:
        if not 100 <= status <= 999:
            raise ValueError(f"{status} is not an HTTP status: expected 100 to 999")
        line = _STATUS_LINES[status] = b"HTTP/1.1 %d \r\n" % status
    return line


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The header lines, each with its line end, in the order given. HOT: about 1 µs for six headers."""
    headers = list(headers)
    lines = b"".join([name + b": " + value + b"\r\n" for name, value in headers])
    names = [name for name, _ in headers]
    # One look at all lines and one at all names: many times cheaper than a regular expression for each.
    if (
        lines.count(b"\n") != len(headers)
        or lines.count(b"\r") != len(headers)
        or b"\0" in lines
        or b"" in names
        or b"".join(names).translate(None, TOKEN_CHARACTERS)
    ):
        raise ValueError(_what_is_wrong(headers))
    return lines


def request_message(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """The whole request as one message, framed by its length. HOT: about 2 µs.

    The header lines are those given, in their order. `Content-Length` is added when there is a body or the method
    usually has one; when `headers` bring it, it must be the body's. `Transfer-Encoding` contradicts a body whose length
    is known and raises ValueError, as does everything that could split the message.
    """
    headers = list(headers)
    given = _given_framing(headers)
    if given not in ([], [b"%d" % len(body)]):
        raise ValueError(f"{given} does not frame a body of {len(body)} bytes")
    framing = b"" if given else length_line(method, body)
    return message_of_lines(method, target, header_lines(headers) + framing, body)


def request_start(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The request line and header lines that many requests to one target begin with; the rest of the head follows."""
    return message_of_lines(method, target, header_lines(headers))[:-2]


def forwarded_lines(headers: RawHeaders, hidden: frozenset[bytes]) -> bytes:
    """The lines of those headers of a received message that travel on, as `forwardable` has them. HOT: 1 µs for five.

    The parser has seen that their names are names; what is a line is looked at again.
    """
    named = named_by_connection(headers)
    if named:
        hidden |= named
    lines = [name + b": " + value + b"\r\n" for name, value in headers if name.lower() not in hidden]
    text = b"".join(lines)
    if text.count(b"\n") != len(lines) or text.count(b"\r") != len(lines) or b"\0" in text:
        raise ValueError(_what_is_wrong(headers))
    return text


def is_dated(lines: bytes) -> bool:
    """Whether a `Date` is among header lines."""
    return b"\ndate:" in b"\n" + lines.lower()


def length_line(method: bytes, body: bytes) -> bytes:
    """The line that frames a whole body; none for an empty one of a method that usually has none."""
    return b"Content-Length: %d\r\n" % len(body) if body or method not in _WITHOUT_BODY else b""


def _given_framing(headers: RawHeaders) -> list[bytes]:
    return [
        value
        for name, value in headers
        if (len(name) == 14 and name.lower() == b"content-length")
        or (len(name) == 17 and name.lower() == b"transfer-encoding")
    ]


def message_of_lines(method: bytes, target: bytes, lines: bytes, body: bytes = b"") -> bytes:
    """A request whose header lines are written, the framing among them; its head alone when the body follows."""
    if not method or method.translate(None, TOKEN_CHARACTERS):
        raise ValueError(f"{method!r} is not a method")
    if not is_target(target):
        raise ValueError(f"{target[:200]!r} is not a request target")
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, target, lines, body)


# RFC 9110, section 8.6: other methods say "no body" with a length of zero.
_WITHOUT_BODY = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"})
# No blank and no control character may stand in a target; other bytes are the function's affair.
_NOT_IN_TARGET = bytes(range(0x21)) + b"\x7f"


def is_target(target: bytes) -> bool:
    """Whether the bytes can stand in a request line without ending it."""
    return bool(target) and len(target.translate(None, _NOT_IN_TARGET)) == len(target)


def for_origin(message: bytes, lines: bytes) -> bytes:
    """The message with header lines put after its request line. HOT: below 1 µs.

    `lines` come from Origin.lines: they are not checked here.
    """
    end = message.index(b"\r\n") + 2
    # The view saves a second copy of the body.
    return b"".join((message[:end], lines, memoryview(message)[end:]))


def read_request(message: bytes, *, body_elsewhere: bool = False) -> Request:
    """Read a message that request_message or for_origin made; for tests and for looking at the queue.

    Raises ValueError when it is not one: neither half-read bytes nor trailing ones pass. With `body_elsewhere` it ends
    with its head.
    """
    head, end, body = message.partition(b"\r\n\r\n")
    request_line, *lines = head.split(b"\r\n")
    parts = request_line.split(b" ")
    if not end or len(parts) != 3 or parts[2] != b"HTTP/1.1":
        raise ValueError(f"not an HTTP/1.1 request: {message[:80]!r}")
    headers: RawHeaders = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise ValueError(f"not a header line: {line[:80]!r}")
        headers.append((name, value.strip(b" \t")))
    header_lines(headers)
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    framed = lengths in ([b"%d" % len(body)], []) and not (body and not lengths)
    if not (framed or (body_elsewhere and not body)):
        raise ValueError(f"Content-Length {lengths} does not frame a body of {len(body)} bytes")
    return Request(parts[0], parts[1], headers, body)


def _what_is_wrong(headers: RawHeaders) -> str:
    for name, value in headers:
        if not name or name.translate(None, TOKEN_CHARACTERS):
            return f"{name[:80]!r} is not a header name"
        # The value is not shown: it may be a secret.
        if any(byte in value for byte in b"\r\n\0"):
            return f"the value of header {name.decode()} contains CR, LF or NUL"
    return "the headers cannot be written"
