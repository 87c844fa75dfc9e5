"""Fairness: open a lane for a function whose calls would hold up the others, move its calls there, close it again.

Theory of operation. The queue's one line is first come, first served, and costs the least. It is unfair in two cases,
in which a function gets a lane, a consumer of its own (queue/lanes.py):

    limited   it runs as many calls as it may: by its annotation, or as it has shown by answering 429 or 503.
              Its next call would hold a slot, or the whole line, while it waits.
    jammed    all slots are busy, what stands in the line will take longer than FAIR_WITHIN_S, and a good part of what
              is here is this one function's.

Workers say which lanes they have when they announce themselves. Gateways then put that function's calls into its lane
at once; what stands in the line is moved, stored in the lane before it is acknowledged in the line. Moving costs about
as much as running a call that does nothing, so a jam of short calls is left alone: it has run off before it could be
sorted.

`Turns` decides whose call is begun: the line's and each lane's deliveries come to it, and each function has its turn. A
lane asks for one call more than can begin, so that somebody stands there when a slot gets free.

A limit by annotation holds for all workers of the queue together, because JetStream counts it: the lane's consumer
hands out no more than so many calls that are not acknowledged. Other workers hear of a lane by its announcement, or
find it. A lane that was empty for IDLE_S is announced no more, and RETIRE_S later, when no gateway can still be putting
a call there, it is taken down.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog

from holdfast import telemetry
from holdfast.directory import Directory, ProviderUnavailable
from holdfast.errors import QueueError, QueueRefused, QueueUnavailable
from holdfast.function import FunctionRef
from holdfast.invocation import Invocation
from holdfast.queue import lanes, presence, wire
from holdfast.queue.connection import Connection
from holdfast.queue.consumer import Consumer, consume
from holdfast.queue.delivery import Delivery
from holdfast.queue.handout import Stopped
from holdfast.queue.lanes import Announced
from holdfast.queue.message import function_words, to_move_into_lane
from holdfast.queue.presence import Announcer
from holdfast.queue.publisher import Publisher
from holdfast.queue.topology import stream_of
from holdfast.queue.wire import Msg
from holdfast.settings import NatsSettings, WorkerSettings
from holdfast.unexpected import Work, alone, forever
from holdfast.worker.concurrency import Concurrency
from holdfast.worker.insist import insist
from holdfast.worker.lane import MAX_INFLIGHT, Lane, read_limit
from holdfast.worker.providers import Providers
from holdfast.worker.slot import WhenLeft
from holdfast.worker.turns import Turns, kept_of

MOST_LANES = 50
# Each consumer makes every publish to the stream dearer: 30 µs with one, 80 to 90 with a hundred. An annotation gets
# its lane all the same: it is a promise to the function.
FAIR_WITHIN_S = 1.0
SORTABLE_RATE = 2000.0
# Calls run in a second, above which a jam is not sorted: moving as many takes half as long.
JAM_SHARE = 0.25
LEAST_JAM = 2
LOOK_EVERY_S = 0.25
JAM_LOOKS = 3
# One look alone may fall upon the moment at which a worker begins, or goes on, with a full queue.
SORTERS = 256
# Calls that are moved at once; each waits for its confirmation.
IDLE_S = 10.0
RETIRE_S = 15.0
# Longer than an announcement counts and a gateway tries to publish.
FIND_EVERY_S = 5.0

log = structlog.get_logger()

Run = Callable[[Delivery, Consumer, Lane | None, WhenLeft], Coroutine[None, None, None]]
"""Leads one delivery through its steps, and frees its place in the consumer, which it says."""


class Lanes:
    """The lanes of one worker's queue."""

    def __init__(
        self,
        settings: WorkerSettings,
        nats: NatsSettings,
        *,
        connection: Connection,
        publisher: Publisher,
        line: Consumer,
        functions: Directory,
        turns: Turns,
        concurrency: Concurrency,
        providers: Providers,
        run: Run,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._queue = settings.queue
        self._ack_wait_s = settings.ack_wait_s
        self._slots = settings.max_inflight
        self._line_slots = self._slots - kept_of(self._slots)
        self._nats = nats
        self._connection = connection
        self._publisher = publisher
        self._line = line
        self._functions = functions
        self._turns = turns
        self._concurrency = concurrency
        self._providers = providers
        self._run = run
        self._tasks = tasks
        self._lanes: dict[str, Lane] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._sorted: set[asyncio.Task[None]] = set()
        """Calls that were taken from the line beyond the slots."""
        self._sorter: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._rate = 0.0
        self._jams = 0
        """Looks in turn that saw the line jammed."""
        self._stopped = False
        self._announcer = Announcer(connection, self._queue, self._fields)
        self._sid = connection.subscribe(f"{presence.SUBJECT_PREFIX}{self._queue}".encode(), self._heard)
        self._moved = telemetry.MOVED.labels(self._queue)
        telemetry.LANES.labels(self._queue).set(0)

    # ---- for the slots

    def apart(self, ref: FunctionRef) -> bool:
        """Whether a function's calls may have no place in the line. HOT: two look-ups while there is no lane."""
        entry = self._functions.known(ref)
        if entry is None or MAX_INFLIGHT in entry.annotations:
            return True
        return bool(self._lanes) and function_words(ref) in self._lanes

    async def move(self, invocation: Invocation) -> bool:
        """Store a call in its function's lane, opened if need be, so that it can be acknowledged in the line.

        False: there is no need of a lane, or no room for it. Raises QueueRefused.
        """
        ref = invocation.function
        if not await self._needed(ref):
            return False
        lane = await self._open(ref)
        if lane is None:
            return False
        lane.use()
        await insist(lambda: self._publisher.confirm(*to_move_into_lane(self._queue, invocation)))
        self._moved.inc()
        return True

    async def _needed(self, ref: FunctionRef) -> bool:
        if function_words(ref) in self._lanes or self._turns.limited(ref):
            return True
        try:
            entry = await self._functions.find(ref)
        except ProviderUnavailable:
            return False
        return entry is not None and read_limit(entry.annotations) is not None

    def adjust(self, lane: Lane) -> None:
        """Ask for as many calls of a lane as can begin now and one more, for none while one waits here."""
        if lane.consumer is None:
            return
        more = 0 if lane.waiting else 1 + min(self._turns.free, self._slots - 1)
        lane.consumer.resize(max(1, lane.in_slots + more))

    # ---- life

    def start(self) -> None:
        """Find the lanes there are, and begin to look after them."""
        self._keeper = self._tasks.create_task(self._keep(), name="lanes")
        # Who else is there, and of which provider, is to be known before the first call.
        if self._connection.connected:
            self._connection.send(wire.pub(presence.ROLL_CALL, b""))

    async def stop(self, grace_s: float) -> None:
        """Take nothing more from the lanes; what was taken may end within the grace time."""
        self._stopped = True
        self._announcer.close()
        self._connection.unsubscribe(self._sid)
        for task in (self._keeper, self._sorter):
            if task is not None:
                task.cancel()
        for lane in self._lanes.values():
            if lane.consumer is not None:
                lane.consumer.stop()
        # A lane's task ends when its calls have.
        under_way = self._serving | self._sorted
        if under_way:
            await asyncio.wait(under_way, timeout=grace_s)
        for task in (*under_way, *(task for lane in self._lanes.values() for task in lane.calls)):
            task.cancel()

    async def _keep(self) -> None:
        """Look at everything again and again: a jam has no event, it is a time that passes."""
        found_at, usual = -float("inf"), 0.0
        looked_at, ended = time.monotonic(), self._turns.ended

        async def look() -> None:
            nonlocal found_at, usual, looked_at, ended
            now = time.monotonic()
            if now > looked_at:
                rate = (self._turns.ended - ended) / (now - looked_at)
                usual += min(1.0, now - looked_at) * (rate - usual)  # over about a second
                # A burst after a rest is fast at once: whoever begins to run does not stand in a jam.
                self._rate = max(rate, usual)
                looked_at, ended = now, self._turns.ended
            try:
                if now - found_at >= FIND_EVERY_S:
                    found_at = now
                    await self._find()
                await self._look_at_line()
                await self._look_at_lanes(now)
            except QueueError as error:
                log.debug("lanes not looked at", queue=self._queue, error=str(error))
            await asyncio.sleep(LOOK_EVERY_S)

        await forever(Work.LANES, look)

    # ---- opening

    async def _open(self, ref: FunctionRef) -> Lane | None:
        """The lane of a function, ready to be used; None when there cannot be another one."""
        words = function_words(ref)
        entry = self._functions.known(ref)
        limit = None if entry is None else read_limit(entry.annotations)
        if self._stopped or (words not in self._lanes and limit is None and len(self._lanes) >= MOST_LANES):
            return None
        lane = self._begin(words, limit)
        await lane.opened.wait()
        return None if lane.refused else lane

    def _begin(self, words: str, limit: int | None) -> Lane:
        lane = self._lanes.get(words)
        if lane is None:
            lane = self._lanes[words] = Lane(words, limit)
            serving = alone(Work.LANES, partial(self._serve, lane), lambda _: None, function=words)
            task = self._tasks.create_task(serving, name=f"lane {words}")
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
            telemetry.LANES.labels(self._queue).set(len(self._lanes))
        return lane

    async def _serve(self, lane: Lane) -> None:
        """Run what stands in a lane until it is closed or the worker stops."""

        async def ensure() -> None:
            if lane.retired_at is not None:
                # Another worker has taken it down: that is what this one was about to do.
                self._close(lane)
                raise QueueUnavailable(f"the lane {lane.words} was taken down")
            await self._ensure(lane, lane.limit)

        try:
            async with AsyncExitStack() as stack:
                lane.consumer = consumer = await stack.enter_async_context(
                    consume(
                        self._connection,
                        stream=stream_of(self._queue),
                        durable=lanes.durable_of(lane.words),
                        capacity=1,
                        ack_wait_s=self._ack_wait_s,
                        ensure=lambda: insist(ensure) if lane.consumer is None else ensure(),
                    )
                )
                lane.opened.set()
                self._announcer.announce()
                log.info("lane opened", queue=self._queue, function=lane.words, limit=lane.limit)
                self.adjust(lane)
                await self._pump(consumer, lane, lane.calls)
                if lane.calls:
                    await asyncio.wait(lane.calls)
        except QueueRefused as error:
            log.error("lane cannot be opened", queue=self._queue, function=lane.words, error=str(error))  # noqa: TRY400 - said by NATS
            lane.refused = True
        finally:
            lane.opened.set()
            self._forget(lane)

    async def _ensure(self, lane: Lane, limit: int | None) -> None:
        await lanes.ensure_lane(self._nats, self._queue, lane.words, ack_wait_s=self._ack_wait_s, limit=limit)

    def _forget(self, lane: Lane) -> None:
        if self._lanes.get(lane.words) is lane:
            del self._lanes[lane.words]
        telemetry.LANES.labels(self._queue).set(len(self._lanes))

    async def _pump(self, consumer: Consumer, lane: Lane | None, calls: set[asyncio.Task[None]]) -> None:
        """Begin a task for each delivery, kept in `calls`, until the consumer is stopped."""

        async def begin() -> None:
            delivery = await consumer.next()
            if lane is not None:
                lane.use()
                lane.in_slots += 1
            run = partial(self._run, delivery, consumer, lane, partial(self._left, lane))
            call = self._tasks.create_task(alone(Work.RUNNING, run, lambda _: None))
            calls.add(call)
            call.add_done_callback(calls.discard)

        await forever(Work.LANES, begin, until=Stopped)

    def _left(self, lane: Lane | None) -> None:
        """A call that was taken from a lane, or from the line beyond its slots, has left its slot."""
        if lane is not None:
            lane.use()
            lane.in_slots -= 1
            self.adjust(lane)

    # ---- looking

    async def _find(self) -> None:
        """Serve the lanes that others opened, or left behind; keep the limits that annotations give."""
        for words in await lanes.lanes_of(self._connection, self._queue):
            if provider := lanes.provider_of(words):
                self._providers.found(provider)
            if not provider or self._providers.serves(provider):
                self._begin(words, lanes.AS_IT_IS)
        left = await lanes.last_in_lanes(self._connection, self._queue)
        if left is not None and lanes.are_words(left) and left not in self._lanes:
            log.warning("calls in a lane that nobody serves", queue=self._queue, function=left)
            self._begin(left, lanes.AS_IT_IS)
        for lane in [lane for lane in self._lanes.values() if not lanes.provider_of(lane.words)]:
            namespace, name = lane.words.split(".", 1)
            entry = self._functions.known(FunctionRef(name, namespace))
            if entry is None or lane.consumer is None or read_limit(entry.annotations) == lane.limit:
                continue
            lane.limit = read_limit(entry.annotations)
            await self._ensure(lane, lane.limit)

    async def _look_at_line(self) -> None:
        """Open a lane when the line is jammed; while all is busy, look at what stands at its head."""
        if self._turns.free > 0:
            self._jams = 0
            self._look_ahead(0)
            return
        waiting = (await lanes.depth_of(self._connection, self._queue)).waiting
        self._jams = self._jams + 1 if self._jammed(waiting) else 0
        if self._jams >= JAM_LOOKS:
            for ref, share in self._turns.heaviest():
                if share < JAM_SHARE:
                    break
                if function_words(ref) not in self._lanes:
                    log.info("line jammed", queue=self._queue, waiting=waiting, rate=round(self._rate, 1))
                    await self._open(ref)
                    break
        self._look_ahead(SORTERS if self._lanes else self._slots - self._line_slots)

    def _jammed(self, waiting: int) -> bool:
        return waiting > max(LEAST_JAM, self._rate * FAIR_WITHIN_S) and self._rate < SORTABLE_RATE

    def _look_ahead(self, calls: int) -> None:
        """Take so many calls from the line beyond its slots.

        They are moved if their function has a lane, and begin at once in a slot that is kept for functions of which
        nothing runs; others wait for their turn. These are few: what waits here no other worker can run.
        """
        self._line.resize(self._line_slots + calls)
        if calls and self._sorter is None and not self._stopped:
            self._sorter = self._tasks.create_task(self._pump(self._line, None, self._sorted), name="look ahead")
        elif not calls and self._sorter is not None:
            self._sorter.cancel()
            self._sorter = None

    async def _look_at_lanes(self, now: float) -> None:
        """Retire what is idle, and close what has been retired long enough."""
        for lane in list(self._lanes.values()):
            if lane.consumer is None or lane.calls or now - lane.used_at < IDLE_S:
                continue
            if self._providers.is_shared() and lanes.provider_of(lane.words) == self._providers.own:
                continue
            if lane.retired_at is not None and now - lane.retired_at < RETIRE_S:
                continue
            depth = await lanes.depth_of(self._connection, self._queue, lanes.durable_of(lane.words))
            if depth.waiting or depth.pending:
                lane.use()
            elif lane.retired_at is None:
                lane.retired_at = now
            else:
                await self._take_down(lane)

    async def _take_down(self, lane: Lane) -> None:
        self._close(lane)
        if await lanes.take_down(self._connection, self._queue, lane.words):
            log.info("lane closed", queue=self._queue, function=lane.words)
        else:
            log.warning("a call came into a lane as it was closed", queue=self._queue, function=lane.words)
            self._begin(lane.words, lane.limit)

    def _close(self, lane: Lane) -> None:
        self._forget(lane)
        if lane.consumer is not None:
            lane.consumer.stop()

    # ---- telling

    def _fields(self) -> dict[str, Any]:
        """What this worker says when it announces itself."""
        now = time.monotonic()
        unix = time.time() - now
        words_of_open = sorted(words for words, lane in self._lanes.items() if lane.announced)
        said = Announced(
            tuple(words for words in words_of_open if not lanes.provider_of(words)),
            {function_words(ref): learned.limit for ref, learned in self._concurrency},
            {function_words(ref): unix + at for ref, at in self._concurrency.held(now)},
        )
        own = self._lanes.get(lanes.words_of_provider(self._providers.own))
        mine = self._providers.fields(apart=own is not None and own.announced)
        return {"max_inflight": self._slots, "running": self._turns.total, **said._asdict(), **mine}

    def _heard(self, message: Msg) -> None:
        """A worker of this queue, perhaps this one, has announced itself."""
        worker = presence.read(message)
        if worker is None or worker.worker_id == self._announcer.worker_id or self._stopped:
            return
        for words in Announced.read(worker.fields).lanes:
            self._begin(words, lanes.AS_IT_IS)
        if other := self._providers.heard(worker):
            self._begin(lanes.words_of_provider(self._providers.own), lanes.AS_IT_IS)
            if (lane := self._lanes.get(lanes.words_of_provider(other))) is not None:
                self._close(lane)  # its own workers are back
