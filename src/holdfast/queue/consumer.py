"""Take calls from a queue: pull what can start now, keep it leased while it runs, acknowledge it when it has ended.

Theory of operation. A consumer has `capacity` slots. Each is in one of three states, and their sum never changes:

    asked      a pull that stands at the server will fill it
    busy       a delivery was handed out for it; `free()` ends that
    unasked    neither: soon to be asked for

So nothing is fetched that cannot start now, and nothing ages in a local buffer. Pulls overlap: while one is being
filled the next is sent, as soon as a quarter of the slots is unasked, or after BATCH_S when none is asked. One inbox
serves all pulls. Messages do not say which pull they answer, so only the sum of what is asked is counted; a pull that
ends unfilled says how much of it is left. Should that count ever be wrong, the server's heartbeats fail to come while
something is asked, and everything is asked for anew under another inbox.

A delivery is in flight from its arrival until it is settled. All in flight are renewed at a third of `ack_wait`: two
renewals may be lost before the server takes the worker for dead. JetStream may deliver a message again, after a lost
connection or a restart of the server; then

    in flight here     it is the same call: the new reply subject is noted, nothing starts
    settled here       it is acknowledged again, nothing starts
    neither            it starts

A message is known by sequence and time together: when a stream was deleted and made again, the same sequence is another
message. Acknowledgements that find no connection are sent when it is back.

When the consumer or its stream is gone, `ensure` makes it anew, again and again until it can.

HOT: taking and acknowledging a message costs this process 4 to 6 µs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from holdfast.errors import QueueError
from holdfast.queue import wire
from holdfast.queue.connection import Connection
from holdfast.queue.topology import DURABLE, stream_of
from holdfast.queue.wire import Msg

EXPIRES_S = 30.0
HEARTBEAT_S = 5.0
SILENCE_S = 3 * HEARTBEAT_S
# Without a word for this long, what was asked for is lost.
BATCH_S = 0.001
# Frees of one moment become one pull: a pull costs the server as much as a message.
REMEMBERED = 100_000
# Settled messages that are known again: more than a server can deliver again after a restart.
MOST_PULLS = 1024
ENSURE_FIRST_PAUSE_S = 0.1
ENSURE_LONGEST_PAUSE_S = 2.0

log = structlog.get_logger("holdfast.queue")


class Stopped(QueueError):
    """The consumer takes no more calls."""


class Delivery:
    """A message handed out, to be settled once by ack, nak or term. `delivered` counts deliveries, this one too."""

    __slots__ = ("_consumer", "delivered", "headers", "key", "payload", "reply", "sequence", "subject")

    def __init__(self, consumer: Consumer, message: Msg, key: bytes, sequence: int, delivered: int) -> None:
        self._consumer = consumer
        self.subject = message.subject
        self.headers = message.headers
        self.payload = message.payload
        self.reply = message.reply
        self.key = key
        self.sequence = sequence
        self.delivered = delivered

    def ack(self) -> None:
        """The call has ended: the message leaves the queue and is not run again."""
        self._consumer._settle(self, b"+ACK")

    def nak(self) -> None:
        """Hand it back: it is delivered again at once, to whoever asks."""
        self._consumer._settle(self, b"-NAK")

    def term(self, reason: str) -> None:
        """The message leaves the queue because it can never be run."""
        self._consumer._settle(self, b"+TERM " + reason.encode())


class Consumer:
    """Get it from `consume()`."""

    def __init__(
        self,
        connection: Connection,
        *,
        queue: str,
        capacity: int,
        ack_wait_s: float,
        ensure: Callable[[], Awaitable[None]],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._connection = connection
        self._next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream_of(queue)}.{DURABLE}".encode()
        self._capacity = capacity
        self._threshold = max(1, capacity // 4)
        self._renew_every_s = ack_wait_s / 3
        self._ensure = ensure
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._asked = 0
        self._busy = 0
        self._pulls: dict[int, int] = {}
        self._last_pull = 0
        self._heard = 0.0
        self._waiting: deque[asyncio.Future[Delivery]] = deque()
        self._arrived: deque[Delivery] = deque()
        self._inflight: dict[bytes, Delivery] = {}
        self._settled: dict[bytes, None] = {}
        self._unsent: list[bytes] = []
        self._stopped = False
        self._asking: asyncio.TimerHandle | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._inbox, self._sid = self._subscribe()
        connection.watch(self)
        self._renewer = self._loop.call_later(self._renew_every_s, self._renew)
        self._listener = self._loop.call_later(HEARTBEAT_S, self._listen)
        self._ask()

    # ---- for the slots

    @property
    def inflight(self) -> int:
        """Deliveries that are not settled."""
        return len(self._inflight)

    async def next(self) -> Delivery:
        """The next delivery, for one slot; `free()` must follow. Raises Stopped."""
        if self._stopped:
            raise Stopped("the consumer was stopped")
        if self._arrived:
            return self._arrived.popleft()
        waiter: asyncio.Future[Delivery] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            # It may have been handed a delivery in the same turn: that goes back to the queue.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().nak()
                self.free()
            raise

    def free(self) -> None:
        """A slot can take the next call."""
        self._busy -= 1
        if self._asking is None:
            self._asking = self._loop.call_later(BATCH_S, self._ask)
        if self._capacity - self._busy - self._asked >= self._threshold:
            self._ask()

    def stop(self) -> None:
        """Take nothing more. What is in flight can still be settled; what has not started is handed back."""
        if self._stopped:
            return
        self._stopped = True
        self._connection.unsubscribe(self._sid, self._hand_back)
        for delivery in list(self._arrived):
            delivery.nak()
        self._arrived.clear()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(Stopped("the consumer was stopped"))
        self._waiting.clear()

    def close(self) -> None:
        """End the timers."""
        self.stop()
        self._connection.unwatch(self)
        for timer in (self._asking, self._renewer, self._listener):
            if timer is not None:
                timer.cancel()
        if self._recovery is not None:
            self._recovery.cancel()

    # ---- asking

    def _subscribe(self) -> tuple[bytes, bytes]:
        inbox = self._connection.new_inbox()
        return inbox, self._connection.subscribe(inbox + b".*", self._received)

    def _ask(self) -> None:
        """Send a pull for the unasked slots, when there are enough of them or nothing is asked."""
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        unasked = self._capacity - self._busy - self._asked
        if self._stopped or not self._connection.connected or unasked <= 0:
            return
        if unasked < self._threshold and self._asked:
            return
        number = self._last_pull = self._last_pull + 1
        self._pulls[number] = unasked
        if len(self._pulls) > MOST_PULLS:
            # A pull that was filled says nothing: the oldest have been, for long.
            del self._pulls[next(iter(self._pulls))]
        if not self._asked:
            self._heard = self._loop.time()
        self._asked += unasked
        request = b'{"batch":%d,"expires":%d,"idle_heartbeat":%d}' % (
            unasked,
            int(EXPIRES_S * 1e9),
            int(HEARTBEAT_S * 1e9),
        )
        self._connection.send(wire.pub(self._next_subject, request, b"%b.%d" % (self._inbox, number)))

    def _ask_anew(self) -> None:
        """Forget what was asked and ask again, under an inbox that old answers do not reach."""
        self._connection.unsubscribe(self._sid, self._hand_back)
        self._inbox, self._sid = self._subscribe()
        self._asked = 0
        self._pulls.clear()
        self._ask()

    def _listen(self) -> None:
        """While something is asked the server sends a heartbeat; silence means that the pull was lost."""
        self._listener = self._loop.call_later(HEARTBEAT_S, self._listen)
        if self._stopped or not self._connection.connected or not self._asked:
            return
        if self._loop.time() - self._heard > SILENCE_S:
            log.warning("pull lost, asking again", asked=self._asked)
            self._ask_anew()

    # ---- receiving

    def _received(self, message: Msg) -> None:
        """HOT: a message or a status came."""
        reply = message.reply
        if not reply.startswith(b"$JS.ACK."):
            self._status(message)
            return
        self._asked -= 1
        self._heard = self._loop.time()
        key, sequence, delivered = _read_reply(reply)
        if delivered > 1:
            known = self._inflight.get(key)
            if known is not None:
                known.reply = reply
                known.delivered = delivered
                self._ask()
                return
            if key in self._settled:
                self._send_or_keep(wire.pub(reply, b"+ACK"))
                self._ask()
                return
        delivery = self._inflight[key] = Delivery(self, message, key, sequence, delivered)
        self._busy += 1
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(delivery)
                return
        self._arrived.append(delivery)

    def _status(self, message: Msg) -> None:
        """A pull ended without being filled, or the server shows that it lives."""
        self._heard = self._loop.time()
        code = wire.status(message.headers)
        if code == 100:
            return
        number = int(message.subject[len(self._inbox) + 1 :])
        batch = self._pulls.pop(number, 0)
        left = wire.header(message.headers, b"Nats-Pending-Messages")
        self._asked = max(0, self._asked - (int(left) if left is not None else batch))
        text = wire.status_text(message.headers)
        if code == 503 or (code == 409 and "Deleted" in text):
            # Nobody answers pulls: JetStream is starting, or the consumer or its stream is gone.
            self._asked = 0
            self._recover(text or "no responders")
        elif code in {404, 408}:
            self._ask()
        else:
            log.debug("pull ended", code=code, text=text)
            if self._asking is None:
                # A pull that is refused over and over must not become a busy loop.
                self._asking = self._loop.call_later(ENSURE_FIRST_PAUSE_S, self._ask)

    def _hand_back(self, message: Msg) -> None:
        """A message for a pull that nobody waits for any more."""
        if message.reply.startswith(b"$JS.ACK.") and _read_reply(message.reply)[0] not in self._inflight:
            self._send_or_keep(wire.pub(message.reply, b"-NAK"))

    # ---- settling

    def _settle(self, delivery: Delivery, word: bytes) -> None:
        """HOT: end a delivery with ACK, NAK or TERM."""
        if self._inflight.pop(delivery.key, None) is None:
            return
        if word != b"-NAK":
            settled = self._settled
            settled[delivery.key] = None
            if len(settled) > REMEMBERED:
                del settled[next(iter(settled))]
        self._send_or_keep(wire.pub(delivery.reply, word))

    def _send_or_keep(self, command: bytes) -> None:
        if self._connection.connected:
            self._connection.send(command)
        else:
            self._unsent.append(command)

    def _renew(self) -> None:
        """Tell the server that the calls in flight are being run."""
        self._renewer = self._loop.call_later(self._renew_every_s, self._renew)
        if self._connection.connected:
            for delivery in self._inflight.values():
                self._connection.send(wire.pub(delivery.reply, b"+WPI"))

    # ---- trouble

    def _recover(self, reason: str) -> None:
        if not self._stopped and (self._recovery is None or self._recovery.done()):
            self._recovery = self._tasks.create_task(self._make_anew(reason), name="make consumer anew")

    async def _make_anew(self, reason: str) -> None:
        """Make sure that the stream and the consumer exist, then go on asking."""
        log.warning("consumer not there, making sure of it", reason=reason)
        pause_s = ENSURE_FIRST_PAUSE_S
        while not self._stopped:
            # Nothing tells when JetStream is up again; it is asked, ever more rarely.
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, ENSURE_LONGEST_PAUSE_S)
            if not self._connection.connected:
                continue
            try:
                await self._ensure()
            except QueueError as error:
                log.warning("consumer cannot be made", error=str(error))
            else:
                self._ask_anew()
                return

    def lost(self) -> None:
        """The connection is gone, and with it what was asked."""
        self._asked = 0
        self._pulls.clear()

    def back(self) -> None:
        """Send what had to wait, renew what runs, ask again."""
        unsent, self._unsent = self._unsent, []
        for command in unsent:
            self._connection.send(command)
        for delivery in self._inflight.values():
            self._connection.send(wire.pub(delivery.reply, b"+WPI"))
        self._ask()

    def closed(self) -> None:
        """There will be no connection: nothing more can be taken."""
        self.stop()


def _read_reply(reply: bytes) -> tuple[bytes, int, int]:
    """A message's key, its sequence in the stream and how often it was delivered, out of its reply subject.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time ns>.<pending>`; with a domain two more
    words follow `$JS.ACK` (NATS ADR-15), and one more may end it.
    """
    words = reply.split(b".")
    at = 4 if len(words) == 9 else 6
    return words[at + 1] + b"@" + words[at + 3], int(words[at + 1]), int(words[at])


@asynccontextmanager
async def consume(
    connection: Connection, *, queue: str, capacity: int, ack_wait_s: float, ensure: Callable[[], Awaitable[None]]
) -> AsyncIterator[Consumer]:
    """Take calls while the context lasts. `ensure` makes stream and consumer: first, and whenever they are gone.

    Raises what `ensure` raises at the first time. Leaving stops; what is in flight then is not settled.
    """
    await ensure()
    async with asyncio.TaskGroup() as tasks:
        consumer = Consumer(
            connection, queue=queue, capacity=capacity, ack_wait_s=ack_wait_s, ensure=ensure, tasks=tasks
        )
        try:
            yield consumer
        finally:
            consumer.close()
