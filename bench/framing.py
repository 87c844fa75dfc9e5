"""Find where an HTTP/1.1 message ends, at the least cost. No I/O.

For the load generator and the callback receiver, which meet only well-behaved peers: they need the length of a message
and nothing of its content. Not a parser; Holdfast's own are in `holdfast.http1`.
"""

from __future__ import annotations

import re

_LENGTH = re.compile(rb"\r\ncontent-length: *", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)


class FramingError(Exception):
    """The peer's bytes cannot be framed as HTTP/1.1; the message shows the head in question."""


class Framing:
    """Sizes of the messages of one peer. Learns how the peer spells Content-Length, so that one `find` is enough."""

    __slots__ = ("_length_line",)

    def __init__(self) -> None:
        self._length_line = b"\r\nContent-Length: "

    def size(self, data: bytes) -> int:
        """Bytes of the message at the start of `data`; 0 while they are not all there.

        HOT: 0.4 µs for a small message. Raises FramingError for an answer that only ends with its connection.
        """
        body = data.find(b"\r\n\r\n") + 4
        if body == 3:
            return 0
        at = data.find(self._length_line, 0, body)
        if at < 0:
            return self._unusual_size(data, body)
        at += len(self._length_line)
        size = body + int(data[at : data.index(b"\r", at)])
        return size if size <= len(data) else 0

    def _unusual_size(self, data: bytes, body: int) -> int:
        head = data[:body]
        if found := _LENGTH.search(head):
            self._length_line = found.group()
            return self.size(data)
        if _CHUNKED.search(head):
            return _chunked_end(data, body)
        if head.startswith(b"HTTP/") and head[9:12] not in (b"204", b"304"):
            raise FramingError(f"neither Content-Length nor chunks in {head!r}")
        return body


def _chunked_end(data: bytes, at: int) -> int:
    """Where a chunked body that begins at `at` ends, 0 while it has not. Trailers are not expected."""
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return 0
        length = int(data[at:line_end].split(b";")[0], 16)
        at = line_end + 2 + length + 2
        if at > len(data):
            return 0
        if length == 0:
            return at
