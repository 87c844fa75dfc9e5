"""What others read from the same bytes: h11 as a server and as a client, curl as a client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import h11

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Asked:
    """A request, whole."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes


@dataclass(frozen=True)
class Answer:
    """An answer, whole."""

    status: int
    headers: Headers
    body: bytes

    def first(self, lower_name: bytes) -> bytes | None:
        return next((value for name, value in self.headers if name.lower() == lower_name), None)

    @property
    def closes(self) -> bool:
        return (self.first(b"connection") or b"").lower() == b"close"


def as_server(data: bytes) -> tuple[list[Asked], Literal["open", "closed", "refused"]]:
    """The requests that h11 reads from a connection's bytes, and whether it would read on."""
    found: list[Asked] = []
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    connection.receive_data(data)
    request: h11.Request | None = None
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return found, "refused"
        if isinstance(event, h11.Request):
            request, body = event, b""
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            if request.method == b"CONNECT":
                return found, "refused"
            found.append(Asked(request.method, request.target, list(request.headers.raw_items()), body))
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return found, "closed"
            connection.start_next_cycle()
        else:
            return found, "open"


def as_client(data: bytes, methods: list[bytes], *, ended: bool) -> tuple[list[Answer], bytes]:
    """The answers to requests of these methods as h11 reads them, interim ones included, and what is left behind them.

    Raises h11.RemoteProtocolError for what is no answer. Methods run out: POST.
    """
    answers: list[Answer] = []
    rest = list(methods)
    while data:
        connection = h11.Connection(h11.CLIENT)
        method = rest.pop(0) if rest else b"POST"
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "h"), ("Content-Length", "0")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(data)
        if ended and not _only_interim(data):
            connection.receive_data(b"")
        heads: list[Answer] = []
        body = b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response | h11.InformationalResponse):
                heads.append(Answer(event.status_code, list(event.headers.raw_items()), b""))
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                interim = [head for head in heads if head.status < 200]
                return answers + interim, b"" if ended and _only_interim(data) else data
        answers += heads[:-1]
        answers.append(Answer(heads[-1].status, heads[-1].headers, body))
        data = connection.trailing_data[0]
    return answers, data


def _only_interim(data: bytes) -> bool:
    """Whether nothing but a go-ahead is left."""
    return data == b"HTTP/1.1 100 Continue\r\n\r\n"
