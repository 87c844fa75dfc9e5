"""Bytes from a client become requests, or one refusal. No I/O, no clock; fed in pieces or whole, the same.

The connection (connection.py) is an assembler with a socket: it inherits, because another object between parser and
connection would cost a call for each event of each request. Tests feed an assembler of their own.
"""

from __future__ import annotations

import httptools

from holdfast.headers import RawHeaders
from holdfast.http1.framing import (
    Refusal,
    absolute_form,
    head_size,
    head_too_large,
    judge,
    not_http,
    target_too_long,
)
from holdfast.http1.limits import Limits


class RequestAssembler:
    """Feeds httptools and checks what it finds.

    The `on_…` methods are called by the parser; the `take_…` methods are written by a subclass.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.in_head: bool = False
        """Whether a request head has begun and is not complete."""
        self.deaf: bool = False
        """Set when nothing more is to be read from this client; the rest of what is being fed is passed over."""
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: RawHeaders = []
        self._fed = 0
        self._first_bytes = 0
        self._head_bytes = 0
        self._in_body = False
        self._quiet_bytes = 0
        self._body_seen = False
        self._without_upgrade = b""

    # ---- a subclass's

    def take_request(
        self, method: bytes, target: bytes, headers: RawHeaders, fields: dict[bytes, bytes], *, version: str, keep: bool
    ) -> None:
        """A request's head is complete and acceptable. `fields`: by lower-case name, the first of duplicates."""
        raise NotImplementedError

    def take_body(self, data: bytes) -> None:
        """The next bytes of its body."""
        raise NotImplementedError

    def take_end(self) -> None:
        """The request is complete."""
        raise NotImplementedError

    def take_refusal(self, refusal: Refusal) -> None:
        """What the client sends cannot be read on. Must set `deaf`."""
        raise NotImplementedError

    # ---- feeding

    def feed(self, data: bytes) -> None:
        """Parse what came; everything it completes happens inside. HOT: 2 µs and what it calls."""
        self._fed = len(data)
        was_in_head = self.in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_without_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserCallbackError as error:
            # What applications raise is caught where they are called: this is a KeyboardInterrupt or an error of our
            # own.
            raise (error.__context__ or error) from None
        except httptools.HttpParserError as error:
            if not self.deaf:
                self.take_refusal(not_http(str(error)))
            return
        if (self.in_head or self._in_body) and not self.deaf:
            self._count(was_in_head=was_in_head)

    def _count(self, *, was_in_head: bool) -> None:
        """Bound what httptools keeps without telling: half a head, trailers and chunk extensions."""
        limit = self.limits.max_header_bytes
        if self.in_head:
            if not was_in_head:
                # Where in its first piece a head began is not known: that piece (one read) is only counted at the end.
                self._first_bytes = self._fed
                return
            self._head_bytes += self._fed
            if self._head_bytes > limit:
                self.take_refusal(head_too_large(self.limits))
        elif self._in_body:
            self._quiet_bytes = 0 if self._body_seen else self._quiet_bytes + self._fed
            self._body_seen = False
            if self._quiet_bytes > limit:
                self.take_refusal(
                    Refusal(431, f"The request has more than {limit} bytes of trailers or chunk extensions.")
                )

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Read a request that offers another protocol as if it did not: llhttp has stopped behind its head.

        Java's HTTP client offers HTTP/2 in this way with every first request, bodies included.
        """
        head, self._without_upgrade = self._without_upgrade, b""
        if not self.deaf:
            self._parser = httptools.HttpRequestParser(self)
            self.feed(head + rest)

    def forget_parser(self) -> None:
        """The parser holds this object's bound methods: a cycle that would wait for the garbage collector."""
        del self._parser

    # ---- the parser's

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.in_head = True
        self._first_bytes = self._head_bytes = 0

    def on_url(self, part: bytes) -> None:
        """The target, or a part of it."""
        self._target += part
        if len(self._target) > self.limits.max_target_bytes and not self.deaf:
            self.take_refusal(target_too_long(self.limits))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is dropped when the message ends."""
        self._headers.append((name, value.rstrip()))

    def on_headers_complete(self) -> None:
        """The head is complete: take the request or refuse it."""
        headers, target = self._headers, self._target
        self._headers, self._target, self.in_head = [], b"", False
        if self.deaf:
            return
        parser, limits = self._parser, self.limits
        method, version = parser.get_method(), parser.get_http_version()
        fields = {name.lower(): value for name, value in reversed(headers)}
        if self._first_bytes + self._head_bytes + self._fed > limits.max_header_bytes < head_size(target, headers):
            self.take_refusal(head_too_large(limits))
            return
        refusal = judge(method, target, headers, fields, version=version, limits=limits)
        if refusal is not None:
            self.take_refusal(refusal)
            return
        if b"upgrade" in fields and parser.should_upgrade():
            self._without_upgrade = _without_upgrade(method, target, headers, version)
            return
        if target[:1] != b"/":
            target = _origin_form(target, headers, fields)
        self._in_body = True
        self._quiet_bytes = 0
        self.take_request(method, target, headers, fields, version=version, keep=parser.should_keep_alive())

    def on_body(self, data: bytes) -> None:
        """Bytes of a body."""
        self._body_seen = True
        self.take_body(data)

    def on_message_complete(self) -> None:
        """The request is complete, unless llhttp stopped at an offer to upgrade."""
        if self._headers:
            self._headers = []  # trailers: nobody reads them, and they must not become headers of the next request
        self._in_body = False
        if not self._without_upgrade:
            self.take_end()


def _origin_form(target: bytes, headers: RawHeaders, fields: dict[bytes, bytes]) -> bytes:
    """The path of a target in absolute form, whose authority replaces the Host header; `*` stays."""
    split = absolute_form(target)
    if split is None:
        return target
    authority, path = split
    headers[:] = [(name, authority if name.lower() == b"host" else value) for name, value in headers]
    fields[b"host"] = authority
    return path


def _without_upgrade(method: bytes, target: bytes, headers: RawHeaders, version: str) -> bytes:
    """The head again, without the header that made llhttp stop."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers if header[0].lower() != b"upgrade"])
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version.encode(), lines)
