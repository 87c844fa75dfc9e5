"""One TCP connection to one NATS server: greets, parses, answers PING, hands messages to callbacks.

Which server is tried when, and what a lost link means, is left to `connection`.
"""

from __future__ import annotations

import asyncio
import collections
import ssl
from collections.abc import Callable, Mapping
from typing import Any, cast

import structlog

from holdfast.errors import QueueUnavailable
from holdfast.nats_address import ServerAddress
from holdfast.queue import wire
from holdfast.queue.wire import Msg
from holdfast.unexpected import Work, set_aside

Callback = Callable[[Msg], None]

SEND_LIMIT = 32 * 1024 * 1024  # unsent bytes after which the server counts as stuck; four of the largest messages

_log = structlog.get_logger("holdfast.queue")


class Link(asyncio.Protocol):
    """A link in the making until its first PONG, then one that works, then a lost one; never used again."""

    def __init__(
        self,
        address: ServerAddress,
        callbacks: Mapping[bytes, Callback],
        on_congestion: Callable[[Link, bool], None],
        on_lost: Callable[[Link, str], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.address = address
        self.info: dict[str, Any] = {}
        self.greeting: asyncio.Future[None] = loop.create_future()
        """Done when the server's first INFO is here."""
        self.lost: asyncio.Future[None] = loop.create_future()
        self.heard = False
        """Something arrived since the owner set this to false."""
        self.asked = False
        """For the owner: a PING was sent to see whether the server lives."""
        self._callbacks = callbacks
        self._on_congestion = on_congestion
        self._on_lost = on_lost
        self._loop = loop
        self._parser = wire.Parser()
        self._pongs: collections.deque[asyncio.Future[None]] = collections.deque()
        self._transport: asyncio.Transport | None = None
        self._reason = ""

    @property
    def max_payload(self) -> int:
        """Largest message, headers included, that the server takes."""
        return self._parser.max_payload

    async def start_tls(self) -> None:
        """Go on encrypted; the certificate must be good for the address's host."""
        assert self._transport is not None  # noqa: S101 - the server greeted, so there is a transport
        context = ssl.create_default_context()
        transport = await self._loop.start_tls(self._transport, self, context, server_hostname=self.address.host)
        self._transport = cast("asyncio.Transport", transport)

    def write(self, data: bytes) -> None:
        """Send; what is written to a lost link is lost."""
        if self._transport is not None:
            self._transport.write(data)

    def expect_pong(self) -> asyncio.Future[None]:
        """Done with the answer to the next PING that is written; an error when the link ends before."""
        answered: asyncio.Future[None] = self._loop.create_future()
        self._pongs.append(answered)
        return answered

    def close(self) -> None:
        """Send what is written, then end."""
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """End at once."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=SEND_LIMIT)

    def data_received(self, data: bytes) -> None:
        """HOT: parse and call; nothing else happens per message."""
        self.heard = True
        try:
            events = self._parser.feed(data)
        except wire.ProtocolViolation as error:
            self.abort(str(error))
            return
        callbacks = self._callbacks
        for event in events:
            if type(event) is Msg:
                callback = callbacks.get(event.sid)
                if callback is not None:
                    try:
                        callback(event)
                    except Exception as error:  # noqa: BLE001 - one message's trouble must not cost the others
                        set_aside(Work.MESSAGES, error, subject=event.subject.decode("utf-8", "replace"))
            else:
                self._control(event)

    def _control(self, event: wire.Event) -> None:
        match event:
            case wire.Ping():
                self.write(wire.PONG)
            case wire.Pong():
                if self._pongs:
                    answered = self._pongs.popleft()
                    if not answered.done():
                        answered.set_result(None)
            case wire.Info(fields):
                self.info = fields
                limit = fields.get("max_payload")
                if isinstance(limit, int):
                    self._parser.max_payload = limit
                if not self.greeting.done():
                    self.greeting.set_result(None)
            case wire.Err(text):
                # All kinds but this one are followed by the end of the connection, and are its reason.
                if not text.startswith("Permissions Violation"):
                    self._reason = self._reason or text
                _log.warning("nats_error", server=str(self.address), error=text)
            case _:
                pass

    def pause_writing(self) -> None:
        """Part of asyncio.Protocol: more than SEND_LIMIT waits to be sent."""
        self._on_congestion(self, True)

    def resume_writing(self) -> None:
        """Part of asyncio.Protocol."""
        self._on_congestion(self, False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol: called once."""
        self._transport = None
        reason = self._reason or (str(exc) if exc else "the server closed the connection")
        error = QueueUnavailable(reason)
        for waiting in (self.greeting, *self._pongs):
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # counts as seen: some PINGs have nobody who waits
        self._pongs.clear()
        if not self.lost.done():
            self.lost.set_result(None)
        self._on_lost(self, reason)
