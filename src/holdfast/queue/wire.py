"""The NATS client protocol: bytes to events and commands to bytes. No I/O, no clock, no subscriptions.

Theory of operation. A server's bytes arrive in pieces of any size. `Parser.feed` takes a piece and returns the events
that it completed. Between calls the parser is in one of two states:

    line      it waits for the end of a control line; what it holds is shorter than MAX_LINE
    payload   a MSG or HMSG line has been read; it waits for `need` bytes, the message and its line end

In state `payload` pieces are only collected until enough is there: joining them as they come would copy a message of
8 MiB hundreds of times. Everything is bounded: a line by MAX_LINE, a message by `max_payload`, so the parser never
holds more than one message and one line. What breaks the protocol raises ProtocolViolation, after which the parser must
not be fed again: the place of the next command is unknown.

HOT: reading costs 1.3 µs per message of 256 bytes when many arrive in one piece. That is why this is one loop with
slices, and events are tuples.

Source: docs.nats.io, "Client Protocol"; nats-server's parser for the limits.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from holdfast.errors import QueueError

MAX_LINE = 64 * 1024
"""Longest control line. nats-server's own limit for clients is 4096; INFO of a large cluster lists every server's URLs
and is the reason for more."""

HEADER_ROOM = 64 * 1024
"""How much larger than `max_payload` a delivered message may be: JetStream adds headers to what was published."""

_CRLF = b"\r\n"


class ProtocolViolation(QueueError):
    """The server's bytes are not the NATS client protocol, or exceed a limit. The connection cannot go on."""


class Info(NamedTuple):
    """What the server says of itself: first on every connection, and again when the cluster changes."""

    fields: dict[str, Any]


class Msg(NamedTuple):
    """A message for subscription `sid`. `reply` and `headers` are empty when there are none.

    `headers` is the whole block as sent, `NATS/1.0…` up to and with the blank line.
    """

    sid: bytes
    subject: bytes
    reply: bytes
    headers: bytes
    payload: bytes


class Ok(NamedTuple):
    """A command was accepted; sent in verbose mode only."""


class Err(NamedTuple):
    """The server refuses something; most kinds close the connection. `text` is without the quotes."""

    text: str


class Ping(NamedTuple):
    """The server asks for a PONG."""


class Pong(NamedTuple):
    """The answer to a PING: the server has read everything sent before it."""


Event = Info | Msg | Ok | Err | Ping | Pong

_OK, _PING, _PONG = Ok(), Ping(), Pong()


class Parser:
    """Turns a server's bytes into events; one per connection."""

    __slots__ = ("_have", "_head", "_line", "_need", "_pieces", "max_payload")

    def __init__(self, max_payload: int = 1024 * 1024) -> None:
        self.max_payload = max_payload
        """Largest message to accept, as the server's INFO says; HEADER_ROOM comes on top."""
        self._line = b""  # state `line`: the start of a control line
        self._head: tuple[bytes, bytes, bytes, int, int] | None = None  # state `payload`: its control line, read
        self._need = 0  # bytes of message and line end that `_head` announces
        self._have = 0  # bytes in `_pieces`
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order. Raises ProtocolViolation."""
        events: list[Event] = []
        if self._head is not None:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return events
            data = b"".join(self._pieces) if len(self._pieces) > 1 else data
            self._pieces = []
            self._have = 0
        elif self._line:
            data = self._line + data
            self._line = b""
        self._read(data, events)
        return events

    def _read(self, data: bytes, events: list[Event]) -> None:
        position = 0
        size = len(data)
        head = self._head
        find = data.find
        append = events.append
        while True:
            if head is None:
                if position == size:
                    break
                end = find(_CRLF, position)
                if end < 0:
                    if size - position > MAX_LINE:
                        raise ProtocolViolation(f"a control line is longer than {MAX_LINE} bytes")
                    self._line = data[position:]
                    break
                if end - position > MAX_LINE:
                    raise ProtocolViolation(f"a control line is longer than {MAX_LINE} bytes")
                line = data[position:end]
                position = end + 2
                # HMSG and MSG, by far the most frequent, in the spelling that nats-server uses.
                if line[:5] == b"HMSG ":
                    head = self._message_head(line[5:].split(), with_headers=True)
                elif line[:4] == b"MSG ":
                    head = self._message_head(line[4:].split(), with_headers=False)
                else:
                    append(_other(line))
                    continue
            sid, subject, reply, header_size, total = head
            end = position + total
            if size < end + 2:
                self._head = head
                self._need = total + 2
                self._have = size - position
                self._pieces = [data[position:]] if position < size else []
                break
            if data[end : end + 2] != _CRLF:
                raise ProtocolViolation(f"a message of {total} bytes does not end with CR LF")
            middle = position + header_size
            append(Msg(sid, subject, reply, data[position:middle], data[middle:end]))
            position = end + 2
            head = self._head = None

    def _message_head(self, words: list[bytes], *, with_headers: bool) -> tuple[bytes, bytes, bytes, int, int]:
        """Read `subject sid [reply] [header size] size`."""
        try:
            header_size = int(words.pop(-2)) if with_headers else 0
            subject, sid, *replies, size = words
            total = int(size)
            (reply,) = replies or (b"",)
        except (ValueError, IndexError):
            raise ProtocolViolation(f"not a message's control line: {_shown(b' '.join(words))}") from None
        if not 0 <= header_size <= total:
            raise ProtocolViolation(f"a message of {total} bytes cannot have {header_size} bytes of headers")
        if total > self.max_payload + HEADER_ROOM:
            raise ProtocolViolation(f"a message of {total} bytes is larger than the limit of {self.max_payload}")
        return sid, subject, reply, header_size, total


def _other(line: bytes) -> Event:
    """The event of a control line that announces no message."""
    word, _, rest = line.partition(b" ")
    match word.upper():
        case b"PING":
            return _PING
        case b"PONG":
            return _PONG
        case b"+OK":
            return _OK
        case b"-ERR":
            return Err(rest.strip().strip(b"'").decode("utf-8", "replace"))
        case b"INFO":
            try:
                fields = json.loads(rest)
            except (ValueError, RecursionError):
                raise ProtocolViolation(f"INFO is not followed by JSON: {_shown(rest)}") from None
            if not isinstance(fields, dict):
                raise ProtocolViolation(f"INFO is not followed by a JSON object: {_shown(rest)}")
            return Info(fields)
    raise ProtocolViolation(f"not a command of the NATS protocol: {_shown(line)}")


def _shown(line: bytes) -> str:
    return repr(line[:80])


def connect(options: dict[str, Any]) -> bytes:
    """CONNECT with its options."""
    return b"CONNECT " + json.dumps(options, separators=(",", ":")).encode() + _CRLF


def sub(subject: bytes, sid: bytes) -> bytes:
    """SUB without a queue group."""
    return b"SUB %b %b\r\n" % (subject, sid)


def unsub(sid: bytes) -> bytes:
    """UNSUB at once."""
    return b"UNSUB %b\r\n" % sid


def pub(subject: bytes, payload: bytes, reply: bytes = b"") -> bytes:
    """PUB: a message without headers."""
    if reply:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload)
    return b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload)


def hpub(subject: bytes, headers: bytes, payload: bytes, reply: bytes = b"") -> bytes:
    """HPUB: a message with a header block, which ends with its blank line."""
    size = len(headers)
    if reply:
        return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, size, size + len(payload), headers, payload)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, size, size + len(payload), headers, payload)


PING = b"PING\r\n"
PONG = b"PONG\r\n"


def status(headers: bytes) -> int:
    """The status of a header block, `NATS/1.0 503 …`; 0 when it has none, 500 when it cannot be read."""
    text = headers[8:12]
    if text[:1] != b" ":
        return 0
    return int(text[1:4]) if text[1:4].isdigit() else 500


def status_text(headers: bytes) -> str:
    """The words after the status, such as `No Messages`; empty when there are none."""
    return headers[12 : headers.find(_CRLF)].strip().decode("utf-8", "replace")


def header(headers: bytes, name: bytes) -> bytes | None:
    """One header's value out of a block; None when it is absent. For blocks read rarely: it searches the bytes."""
    start = headers.find(b"\r\n%b:" % name)
    if start < 0:
        return None
    start += len(name) + 3
    return headers[start : headers.find(_CRLF, start)].strip()
