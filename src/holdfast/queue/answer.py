"""A function's answer as bytes that are kept: an HTTP/1.1 response, as its request is an HTTP/1.1 request. No I/O."""

from __future__ import annotations

import re
from typing import NamedTuple

from holdfast.errors import QueueError
from holdfast.headers import RawHeaders

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) ?[^\r\n]*")


class KeptAnswer(NamedTuple):
    """Status, headers in order, body."""

    status: int
    headers: RawHeaders
    body: bytes


class UnreadableAnswer(QueueError):
    """Kept bytes are not an answer."""


def write_answer(answer: KeptAnswer) -> bytes:
    """The message. The headers came from a parser, so they hold no line ends."""
    lines = b"".join(b"%b: %b\r\n" % header for header in answer.headers)
    return b"HTTP/1.1 %d \r\n%b\r\n%b" % (answer.status, lines, answer.body)


def read_answer(message: bytes) -> KeptAnswer:
    """The answer in a message. Raises UnreadableAnswer."""
    head, end, body = message.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(line)
    if match is None or not end:
        raise UnreadableAnswer(f"not a kept answer: {message[:80]!r}")
    headers: RawHeaders = []
    for field in lines:
        name, colon, value = field.partition(b": ")
        if not colon:
            raise UnreadableAnswer(f"not a header of a kept answer: {field[:80]!r}")
        headers.append((name, value))
    return KeptAnswer(int(match.group(1)), headers, body)
