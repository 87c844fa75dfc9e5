"""A function's answer as bytes that are kept: an HTTP/1.1 response, as its request is an HTTP/1.1 request. No I/O.

A body that is too large for a message is kept elsewhere; the message that carries the rest names it in a header.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from holdfast.errors import QueueError
from holdfast.headers import RawHeaders
from holdfast.invocation import StoredBody
from holdfast.queue import wire

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) ?[^\r\n]*")


class KeptAnswer(NamedTuple):
    """Status, headers in order, body."""

    status: int
    headers: RawHeaders
    body: bytes
    stored: StoredBody | None = None
    """Where the body is when it is not here."""

    @property
    def size(self) -> int:
        """Length of the body in bytes."""
        return len(self.body) if self.stored is None else self.stored.size


class UnreadableAnswer(QueueError):
    """Kept bytes are not an answer."""


def write_answer(answer: KeptAnswer) -> bytes:
    """The message. The headers came from a parser, so they hold no line ends."""
    lines = b"".join(b"%b: %b\r\n" % header for header in answer.headers)
    return b"HTTP/1.1 %d \r\n%b\r\n%b" % (answer.status, lines, answer.body)


def stored_line(answer: KeptAnswer | None) -> str:
    """The header line, for the message that carries an answer, that says where its body is; empty for most."""
    return "" if answer is None or answer.stored is None else f"Holdfast-Answer-Body: {answer.stored}\r\n"


def read_answer(message: bytes, carrier: bytes = b"") -> KeptAnswer:
    """The answer in a message whose headers are `carrier`. Raises UnreadableAnswer."""
    head, end, body = message.partition(b"\r\n\r\n")
    named = wire.header(carrier, b"Holdfast-Answer-Body")
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
    try:
        stored = None if named is None else StoredBody.parse(named.decode("ascii"))
    except ValueError as error:
        raise UnreadableAnswer(f"not the name of a body: {named!r}") from error
    return KeptAnswer(int(match.group(1)), headers, body, stored)
