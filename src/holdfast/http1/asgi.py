"""Any ASGI 3 application behind the lane, for everything that is not hot: a task per request, streaming both ways.

No lifespan, no WebSocket: what an application needs to live is made by whoever makes the application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import structlog

from holdfast.headers import HOP_BY_HOP
from holdfast.http1.exchange import Exchange
from holdfast.http1.message import header_lines
from holdfast.unexpected import Work, set_aside

log = structlog.get_logger("holdfast.http1")

Message = MutableMapping[str, Any]
AsgiApp = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

MAX_BODY_BYTES = 16 * 1024 * 1024
# Request bytes kept for an application that does not take them; beyond it the client is not read.
HELD_BYTES = 65_536
_TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"
# The lane frames and dates the answer.
_NOT_PASSED = HOP_BY_HOP | {b"content-length", b"date"}


class AsgiApplication:
    """An ASGI application as an application of the lane.

    An async context manager that owns its requests' tasks. Leave it after the server: what still runs is cancelled.
    """

    def __init__(self, app: AsgiApp, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        """`max_body_bytes`: a request body beyond it is answered 413."""
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, exchange: Exchange) -> None:
        """Start the request's task."""
        call = _Call(exchange, self._max_body_bytes)
        task = asyncio.get_running_loop().create_task(call.run(self._app))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Call:
    """One request of an ASGI application. It is the body's reader."""

    def __init__(self, exchange: Exchange, max_body_bytes: int) -> None:
        self._exchange = exchange
        self._max_body_bytes = max_body_bytes
        self._changed = asyncio.Event()
        # The request.
        self._asked = False
        self._parts: list[bytes] = []
        self._held = 0
        self._body_ended = False
        self._end_told = False
        # The answer.
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._length: int | None = None
        self._complete = False
        self._gone = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        exchange.on_flow(self._flowing.clear, self._flowing.set)
        exchange.on_gone(self._client_gone)

    async def run(self, app: AsgiApp) -> None:
        """Run the application; whatever it does, the exchange ends."""
        exchange = self._exchange
        try:
            await app(_scope(exchange), self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - one request must not cost the server
            if not self._gone:
                set_aside(Work.ANSWERING, error)
        finally:
            if not self._complete:
                self._complete = True
                if exchange.answered:
                    exchange.abort()
                else:
                    exchange.respond(500, _TEXT, b"The server failed on this request.\n")

    # ---- the exchange

    def body_data(self, data: bytes) -> None:
        """More of the request body."""
        self._parts.append(data)
        self._held += len(data)
        if self._held >= HELD_BYTES:
            self._exchange.pause_body()
        self._changed.set()

    def body_end(self) -> None:
        """The request body is complete."""
        self._body_ended = True
        self._changed.set()

    def body_lost(self) -> None:
        """The client left while sending; on_gone says so too."""

    def _client_gone(self) -> None:
        self._gone = True
        self._changed.set()
        self._flowing.set()

    # ---- the application

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            self._exchange.stream(self, self._max_body_bytes)
        while True:
            if self._gone or self._complete:
                return {"type": "http.disconnect"}
            if self._parts or (self._body_ended and not self._end_told):
                return self._take_body()
            self._changed.clear()
            # Ends with more of the body, with the client or with the answer, and the lane bounds the first two.
            await self._changed.wait()

    def _take_body(self) -> Message:
        body = b"".join(self._parts)
        if self._held >= HELD_BYTES:
            self._exchange.resume_body()
        self._parts.clear()
        self._held = 0
        self._end_told = self._body_ended
        return {"type": "http.request", "body": body, "more_body": not self._body_ended}

    async def _send(self, message: Message) -> None:
        if self._gone or self._complete:
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._take_headers(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            await self._send_body(bytes(message.get("body", b"")), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"an ASGI application sent {message['type']!r}, which no request asks for")

    def _take_headers(self, headers: Any) -> None:
        for raw_name, raw_value in headers:
            name, value = bytes(raw_name), bytes(raw_value)
            lower = name.lower()
            if lower == b"content-length":
                self._length = int(value)
            if lower not in _NOT_PASSED:
                self._headers.append((name, value))

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        exchange = self._exchange
        if not self._status:
            raise RuntimeError("an ASGI application sent a body before http.response.start")
        if not more and not exchange.answered and exchange.method != b"HEAD":
            exchange.respond(self._status, header_lines(self._headers), body)
            self._finish()
            return
        if not exchange.answered:
            exchange.start(self._status, header_lines(self._headers), self._length)
        flowing = exchange.write(body)
        if not more:
            exchange.end()
            self._finish()
        elif not flowing:
            # Ends when the client reads, or when the lane gives it up after write_timeout_s.
            await self._flowing.wait()

    def _finish(self) -> None:
        self._complete = True
        self._changed.set()


def _scope(exchange: Exchange) -> Message:
    raw_path, _, query = exchange.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": exchange.version,
        "method": exchange.method.decode("ascii"),
        "scheme": "http",
        "path": unquote(raw_path.decode("latin-1")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in exchange.headers],
        "client": (exchange.client_host, 0) if exchange.client_host else None,
        "server": None,
    }
