"""One connection to NATS: it finds a server, stays with it, and finds another one when it is lost.

What the bytes mean is left to `wire`, what JetStream's answers mean to `publisher`, `consumer` and `topology`.

Theory of operation. A `Link` is one TCP connection: it parses what arrives and hands messages to the subscriptions'
callbacks. `Connection` outlives its links. A task of its own waits for the end of the current link, tries the servers
in turn until one answers, subscribes everything again and tells the listeners. Three rules follow from the promise
that nothing is accepted which is not stored:

- While there is no link, nothing is buffered: sending raises QueueUnavailable, and the caller knows at once.
- Bytes that were given to a link are lost with it. Whoever needs an answer watches for `lost` and `back`.
- Closing waits until the server has read everything (PING, PONG): acknowledgements written last are not cut off.

HOT: `send` appends to a list; the list is joined and written once per tick of the event loop, so that hundreds of
publishes or acknowledgements of one tick cost one system call.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import structlog

from holdfast.errors import QueueError, QueueUnavailable
from holdfast.nats_address import ServerAddress
from holdfast.queue import wire
from holdfast.queue.link import Callback, Link
from holdfast.queue.wire import Msg
from holdfast.settings import NatsSettings
from holdfast.unexpected import Work, forever, guarded

CONNECT_TIMEOUT_S = 2.0  # for one server: TCP, TLS and NATS's greeting; loopback needs 2 ms, another continent 600
CLOSE_TIMEOUT_S = 2.0  # for the server to read what was written last
FIRST_PAUSE_S = 0.05  # a restarted nats-server listens again after 100 ms or more
PAUSE_SHARE = 0.1  # pauses are a tenth of the outage so far: waiting makes an outage at most that much longer
_WRITE_AT_ONCE = 64 * 1024  # a message this large is not copied once more to join it with others

_log = structlog.get_logger("holdfast.queue")


class _GivenUp(Exception):
    """No server was found for too long."""


class Listener(Protocol):
    """What wants to know how the connection fares. The methods must not block; order: lost, then back or closed."""

    def lost(self) -> None:
        """What was sent and not answered may never have arrived."""

    def back(self) -> None:
        """There is a link again, and everything is subscribed again."""

    def closed(self) -> None:
        """There will be no link any more."""


@contextlib.asynccontextmanager
async def connect(
    settings: NatsSettings,
    *,
    name: str,
    on_lost: Callable[[str], None] | None = None,
    on_back: Callable[[], None] | None = None,
    patience_s: float = 10.0,
    ping_interval_s: float = 10.0,
) -> AsyncIterator[Connection]:
    """A connection for as long as the context lasts; on exit everything sent has been read by the server.

    The first link is tried for `patience_s`, because a server may be starting at the same time; then QueueUnavailable
    names what each server said. A refused password ends at once. `ping_interval_s`: a server that is silent for two of
    these counts as lost. `on_lost` gets the reason. `name` is shown by the server's monitoring.
    """
    addresses = [ServerAddress.parse(url) for url in settings.servers()]
    connection = Connection(
        settings, addresses, name=name, ping_interval_s=ping_interval_s, on_lost=on_lost, on_back=on_back
    )
    await connection._begin(patience_s)
    try:
        yield connection
    finally:
        await connection._close()


class Connection:
    """Get it from `connect()`. Subjects and payloads are bytes, ready for the wire."""

    def __init__(
        self,
        settings: NatsSettings,
        addresses: list[ServerAddress],
        *,
        name: str,
        ping_interval_s: float,
        on_lost: Callable[[str], None] | None,
        on_back: Callable[[], None] | None,
    ) -> None:
        self.connected = False
        self.congested = False
        """More than SEND_LIMIT bytes wait to be sent: new work should be refused until they are gone."""
        self.max_payload = 1024 * 1024
        """Largest message, headers included, that the server takes."""
        self.server_version = ""
        self.server = ""
        """The server of the current link, `host:port`."""
        self.ended: asyncio.Future[None]
        """Done when the context was left; an exception when reconnecting was given up after `max_reconnect`."""
        self._settings = settings
        self._addresses = collections.deque(addresses)
        self._name = name
        self._ping_interval_s = ping_interval_s
        self._on_lost = on_lost
        self._on_back = on_back
        self._listeners: list[Listener] = []
        self._subscriptions: dict[bytes, tuple[bytes, Callback]] = {}
        self._callbacks: dict[bytes, Callback] = {}  # by subscription, in the hands of every link
        self._last_sid = 0
        self._inbox = self.new_inbox()
        self._requests: dict[bytes, asyncio.Future[Msg]] = {}
        self._last_request = 0
        self._out: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._link: Link
        self._keeper: asyncio.Task[None]
        self._liveness: asyncio.TimerHandle | None = None
        self._seen: dict[ServerAddress, str] = {}

    # ---- sending

    def send(self, command: bytes) -> None:
        """Send a command of `wire`'s builders. Raises QueueUnavailable while there is no link."""
        if not self.connected:
            raise QueueUnavailable(f"NATS is not connected ({self._last_words()})")
        out = self._out
        if len(command) > _WRITE_AT_ONCE:
            self._write()
            self._link.write(command)
            return
        if not out:
            self._loop.call_soon(self._write)
        out.append(command)

    def _write(self) -> None:
        out = self._out
        if out:
            self._link.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    async def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Return once the server has read everything sent so far. Raises QueueUnavailable."""
        if not self.connected:
            raise QueueUnavailable(f"NATS is not connected ({self._last_words()})")
        try:
            async with asyncio.timeout(timeout_s):
                await self._ping()
        except TimeoutError:
            raise QueueUnavailable(f"NATS at {self.server} did not answer PING within {timeout_s:g} s") from None

    def _ping(self) -> asyncio.Future[None]:
        answered = self._link.expect_pong()
        self.send(wire.PING)
        return answered

    # ---- subscribing and asking

    @staticmethod
    def new_inbox() -> bytes:
        """A subject that nobody else uses, to receive answers under."""
        return b"_INBOX." + secrets.token_hex(10).encode()

    def subscribe(self, subject: bytes, callback: Callback) -> bytes:
        """Have `callback` called with every message under `subject`, on every link; returns the id to unsubscribe."""
        self._last_sid += 1
        sid = b"%d" % self._last_sid
        self._subscriptions[sid] = (subject, callback)
        self._callbacks[sid] = callback
        if self.connected:
            self.send(wire.sub(subject, sid))
        return sid

    def unsubscribe(self, sid: bytes, late: Callback | None = None) -> None:
        """End a subscription. `late` is called with messages that were on their way already."""
        if self._subscriptions.pop(sid, None) is None:
            return
        del self._callbacks[sid]
        if not self.connected:
            return
        self.send(wire.unsub(sid))
        if late is not None:
            self._callbacks[sid] = late
            # The server answers in order: after this PONG nothing more comes for the subscription.
            self._ping().add_done_callback(lambda _: self._callbacks.pop(sid, None))

    async def request(self, subject: bytes, payload: bytes, timeout_s: float) -> Msg:
        """Publish and return the one answer. Raises QueueUnavailable: no link, nobody listens, no answer in time."""
        self._last_request += 1
        reply = b"%b.%d" % (self._inbox, self._last_request)
        answer: asyncio.Future[Msg] = self._loop.create_future()
        self._requests[reply] = answer
        try:
            self.send(wire.pub(subject, payload, reply))
            async with asyncio.timeout(timeout_s):
                message = await answer
        except TimeoutError:
            raise QueueUnavailable(f"NATS gave no answer to {subject.decode()} within {timeout_s:g} s") from None
        finally:
            del self._requests[reply]
        if wire.status(message.headers) == 503:
            raise QueueUnavailable(f"nobody answers {subject.decode()} at NATS")
        return message

    def _answered(self, message: Msg) -> None:
        answer = self._requests.get(message.subject)
        if answer is not None and not answer.done():
            answer.set_result(message)

    def watch(self, listener: Listener) -> None:
        """Tell `listener` from now on how the connection fares."""
        self._listeners.append(listener)

    def unwatch(self, listener: Listener) -> None:
        """Tell it no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    # ---- the life of links

    async def _begin(self, patience_s: float) -> None:
        self.ended = self._loop.create_future()
        self.subscribe(self._inbox + b".*", self._answered)
        began = time.monotonic()
        while (link := await self._try_each()) is None:
            refused = all("Authorization" in said for said in self._seen.values())
            outage_s = time.monotonic() - began
            if refused or outage_s >= patience_s:
                raise QueueUnavailable(f"no NATS server could be reached ({self._last_words()})")
            await asyncio.sleep(self._pause_s(outage_s))
        self._adopt(link)
        keeping = forever(Work.CONNECTION, self._keep, until=_GivenUp)
        self._keeper = asyncio.create_task(keeping, name="nats connection")
        self._keeper.add_done_callback(self._keeper_ended)
        self._check_alive()

    def _keeper_ended(self, keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and (error := keeper.exception()) and not self.ended.done():
            self.ended.set_exception(error)

    async def _keep(self) -> None:
        """Replace the link once it is lost. Raises _GivenUp."""
        await self._link.lost
        began = time.monotonic()
        attempts = 0
        while (link := await self._try_each()) is None:
            attempts += 1
            outage_s = time.monotonic() - began
            if attempts == self._settings.max_reconnect:
                self._give_up(attempts, outage_s)
                raise _GivenUp
            await asyncio.sleep(self._pause_s(outage_s))
        self._adopt(link)
        _log.info("nats_back", server=self.server, outage_s=round(time.monotonic() - began, 3))
        if self._on_back is not None:
            self._on_back()
        self._tell(lambda listener: listener.back())

    def _tell(self, what: Callable[[Listener], None]) -> None:
        """Tell all who listen, whatever one of them does."""
        for listener in list(self._listeners):
            guarded(Work.CONNECTION)(what)(listener)

    def _pause_s(self, outage_s: float) -> float:
        return min(max(FIRST_PAUSE_S, outage_s * PAUSE_SHARE), self._settings.reconnect_delay_s)

    def _give_up(self, attempts: int, outage_s: float) -> None:
        self.ended.set_exception(
            QueueUnavailable(
                f"NATS was tried {attempts} times in {outage_s:.1f} s and is given up ({self._last_words()})"
            )
        )
        self.ended.exception()  # counts as seen: nobody has to look
        self._tell(lambda listener: listener.closed())

    async def _try_each(self) -> Link | None:
        """Try every server once, beginning with the one whose turn it is; None when none answered."""
        for _ in range(len(self._addresses)):
            address = self._addresses[0]
            self._addresses.rotate(-1)
            try:
                return await self._open(address)
            except TimeoutError:
                self._seen[address] = f"no answer within {CONNECT_TIMEOUT_S:g} s"
            except (OSError, QueueError) as error:
                self._seen[address] = str(error)
        return None

    async def _open(self, address: ServerAddress) -> Link:
        link = Link(address, self._callbacks, self._congestion, self._lost)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._loop.create_connection(lambda: link, address.host, address.port)
                await link.greeting
                if address.tls or link.info.get("tls_required"):
                    await link.start_tls()
                welcome = link.expect_pong()
                link.write(wire.connect(self._options(address)) + wire.PING)
                await welcome
        except BaseException:
            link.abort("given up")
            raise
        if link.lost.done():
            raise QueueUnavailable("the connection ended right after the greeting")
        return link

    def _options(self, address: ServerAddress) -> dict[str, object]:
        options: dict[str, object] = {
            "verbose": False,
            "pedantic": False,
            "name": self._name,
            "lang": "python",
            "version": "holdfast",
            "protocol": 1,
            "headers": True,
            "no_responders": True,
        }
        if address.token:
            options["auth_token"] = address.token
        if address.user:
            options |= {"user": address.user, "pass": address.password}
        return options

    def _adopt(self, link: Link) -> None:
        """Make a greeted link the current one."""
        self._link = link
        self._seen.clear()
        self._out.clear()
        self.server = str(link.address)
        self.max_payload = link.max_payload
        self.server_version = str(link.info.get("version", ""))
        link.write(b"".join(wire.sub(subject, sid) for sid, (subject, _) in self._subscriptions.items()))
        self._callbacks.clear()
        self._callbacks.update((sid, callback) for sid, (_, callback) in self._subscriptions.items())
        self.congested = False
        self.connected = True

    def _lost(self, link: Link, reason: str) -> None:
        """A link has ended; called once for each. Those that never became the current one do not count."""
        if not self.connected or link is not self._link:
            return
        self.connected = self.congested = False
        self._seen = {link.address: reason}
        self._out.clear()
        error = QueueUnavailable(f"the connection to NATS was lost ({self._last_words()})")
        for answer in self._requests.values():
            if not answer.done():
                answer.set_exception(error)
        _log.warning("nats_lost", server=self.server, reason=reason)
        if self._on_lost is not None:
            self._on_lost(reason)
        self._tell(lambda listener: listener.lost())

    def _congestion(self, link: Link, congested: bool) -> None:  # noqa: FBT001 - a callback with one fact
        if self.connected and link is self._link:
            self.congested = congested

    def _last_words(self) -> str:
        return "; ".join(f"{address}: {said}" for address, said in self._seen.items()) or "closed"

    @guarded(Work.CONNECTION)
    def _check_alive(self) -> None:
        self._liveness = self._loop.call_later(self._ping_interval_s, self._check_alive)
        if not self.connected:
            return
        link = self._link
        if link.asked and not link.heard:
            link.abort(f"no answer to PING within {self._ping_interval_s:g} s")
            return
        link.asked, link.heard = True, False
        self._ping()

    async def _close(self) -> None:
        if self._liveness is not None:
            self._liveness.cancel()
        if self.connected:
            with contextlib.suppress(QueueUnavailable):
                await self.flush()
                # The first may have brought late messages, which were handed back: that has to be read as well.
                await self.flush()
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        was_connected, self.connected = self.connected, False
        if was_connected:
            self._link.close()
            # The transport reports its end in the next ticks; a TLS peer that says no good-bye is not waited for.
            await asyncio.wait([self._link.lost], timeout=CLOSE_TIMEOUT_S)
            self._link.abort("closed")
        if not self.ended.done():
            self.ended.set_result(None)
            self._tell(lambda listener: listener.closed())
