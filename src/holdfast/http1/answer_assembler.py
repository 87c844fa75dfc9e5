"""Bytes from a peer become one answer after another, or a fault. No I/O, no clock; fed in pieces or whole, the same.

The client's connection (client_connection.py) is an assembler with a socket, for the reason given in
request_assembler.py.
"""

from __future__ import annotations

import httptools

from holdfast.headers import RawHeaders
from holdfast.http1.framing import MOST_LENGTH_DIGITS

# A peer is a function or a receiver that somebody wrote: more than this is a mistake or an attack.
MAX_HEADERS = 256


class AnswerAssembler:
    """Feeds httptools and checks what it finds.

    The `on_…` methods are called by the parser; the `take_…` methods are written by a subclass.
    """

    def __init__(self, max_header_bytes: int) -> None:
        self.heard: bool = False
        """Whether a single byte came since `expect`."""
        self.complete: bool = False
        """Whether the final answer is complete."""
        self.reusable: bool = False
        """Once complete: whether the connection can carry another request."""
        self.unreadable: bool = False
        """Whether what came is no HTTP/1.1 at all."""
        self._max_header_bytes = max_header_bytes
        self._parser = httptools.HttpResponseParser(self)
        self._headers: RawHeaders = []
        self._head_only = False
        self._head_taken = False
        self._until_close = False
        self._interim = False
        self._faulty = False
        self._body_seen = False
        self._quiet_bytes = 0

    # ---- a subclass's

    def take_head(self, status: int, headers: RawHeaders) -> None:
        """The head of the final answer."""
        raise NotImplementedError

    def take_data(self, data: bytes) -> None:
        """The next bytes of its body."""
        raise NotImplementedError

    def take_fault(self, fault: str) -> None:
        """The peer does not speak HTTP/1.1: `fault` completes a sentence that begins with the peer's name."""
        raise NotImplementedError

    # ---- feeding

    def expect(self, *, head_only: bool) -> None:
        """A request was sent: the next bytes are its answer. HOT."""
        self.heard = self.complete = False
        self._head_taken = self._until_close = False
        self._quiet_bytes = 0
        self._head_only = head_only

    def feed(self, data: bytes) -> None:
        """Parse what came; everything it completes happens inside. HOT."""
        self.heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            raise (error.__context__ or error) from None
        except (httptools.HttpParserUpgrade, httptools.HttpParserError) as error:
            self.reusable = False
            if not self.complete:
                self.unreadable = True
                self._fault(f"does not speak HTTP/1.1: {error}")
            return
        if not self.complete:
            # Half a head, interim answers, trailers, chunk extensions: all that comes without showing.
            self._quiet_bytes = 0 if self._body_seen else self._quiet_bytes + len(data)
            self._body_seen = False
            if self._quiet_bytes > self._max_header_bytes:
                self._fault(f"sends a head of more than {self._max_header_bytes} bytes")

    def feed_eof(self) -> bool:
        """The peer closed in an orderly way: whether that completes the answer."""
        if self._head_taken and self._until_close and not self._faulty:
            self.complete = True
        return self.complete

    def forget_parser(self) -> None:
        """The parser holds this object's bound methods: a cycle that would wait for the garbage collector."""
        del self._parser

    def _fault(self, fault: str) -> None:
        if not self._faulty:
            self._faulty = True
            self.take_fault(fault)

    # ---- the parser's

    def on_message_begin(self) -> None:
        """The first byte of an answer; of one that nobody asked for when the asked one is complete."""
        if self.complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is dropped when the message ends."""
        self._headers.append((name, value.rstrip()))

    def on_headers_complete(self) -> None:
        """A head is complete: the final one, or an interim one."""
        headers, self._headers = self._headers, []
        if self.complete or self._faulty:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interim = True
            if status == 101:
                self._fault("switched to another protocol, which nobody asked for")
            elif status < 100:
                self._fault(f"answered with status {status}")
            elif any(name.lower() in _FRAMING and value != b"0" for name, value in headers):
                # llhttp reads the body that RFC 9110, section 15.2, does not know here: bytes for the client that come
                # before the head of its answer, as if they were one.
                self._fault(f"framed a body for an interim answer ({status})")
            return
        keep = self._parser.should_keep_alive()
        fault = _fault_of_head(headers)
        if fault is None and not keep:
            fault = self._look_at_framing(headers)
        if fault is not None:
            self._fault(fault)
            return
        self._head_taken = True
        if self._head_only:
            self.complete = True
            self.reusable = keep
            # llhttp waits for the body that the head announces: start afresh.
            self._parser = httptools.HttpResponseParser(self)
        self.take_head(status, headers)

    def _look_at_framing(self, headers: RawHeaders) -> str | None:
        """The connection will not be kept: because the peer says so, or because its end is the end of the body."""
        version = self._parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            return f"answered in HTTP/{version}"
        names = {name.lower() for name, _ in headers}
        self._until_close = not names & {b"content-length", b"transfer-encoding"}
        return None

    def on_body(self, data: bytes) -> None:
        """Bytes of a body."""
        self._body_seen = True
        if self.complete:
            self.reusable = False  # a body after the answer to HEAD
        elif not self._head_taken:
            self._fault("sends a body before the head of its answer")
        elif not self._faulty:
            self.take_data(data)

    def on_message_complete(self) -> None:
        """A message is complete."""
        if self._headers:
            self._headers = []  # trailers
        if self._interim:
            self._interim = False
        elif not self.complete and not self._faulty:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()


_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


def _fault_of_head(headers: RawHeaders) -> str | None:
    if len(headers) > MAX_HEADERS:
        return f"answered with more than {MAX_HEADERS} header lines"
    coded = False
    # HOT: the length tells most names apart from these two.
    for name, value in headers:
        size = len(name)
        if size == 17 and name.lower() == b"transfer-encoding":
            if coded or value.lower() != b"chunked":
                return "answered in a transfer coding other than chunked"
            coded = True
        elif size == 14 and name.lower() == b"content-length" and len(value) > MOST_LENGTH_DIGITS:
            return f"answered with a Content-Length of more than {MOST_LENGTH_DIGITS} digits"
    return None
