"""The slots of a worker: each takes one call after the other and leads it through its steps.

    take -> read -> wait for its turn -> run -> decide -> end -> settle

Only `_settle` acknowledges. Steps that see a delivery return what is to become of it. A call that cannot have its turn
soon is moved out of the line, into its function's lane; whose turn it is, and who has a lane, is turns.py's and
lanes.py's.
"""

from __future__ import annotations

import asyncio
import enum
import random
import time
from collections.abc import Coroutine
from datetime import UTC, datetime

import structlog

from holdfast import telemetry
from holdfast.directory import Directory
from holdfast.errors import QueueRefused
from holdfast.function import FunctionRef
from holdfast.invocation import Invocation
from holdfast.queue.connection import Connection
from holdfast.queue.consumer import Consumer, Stopped
from holdfast.queue.delivery import Delivery
from holdfast.queue.message import Undecodable, from_delivery, was_recorded
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallStatus
from holdfast.queue.records import AgedOut, Records, Stored
from holdfast.settings import NatsSettings, WorkerSettings
from holdfast.worker.attempt import Runner
from holdfast.worker.concurrency import LONGEST_HOLD_S, TOO_MANY, Concurrency
from holdfast.worker.decision import SUCCEEDED, End, RunAgain, decide, succeeded
from holdfast.worker.endings import Endings
from holdfast.worker.insist import insist
from holdfast.worker.lane import Lane
from holdfast.worker.lanes import Lanes
from holdfast.worker.outcome import Outcome, no_answer
from holdfast.worker.policies import Policies
from holdfast.worker.retry import retry_after_s
from holdfast.worker.running import Running, RunningCalls
from holdfast.worker.turns import Turns, kept_of

_SCHEDULED = b"Nats-Scheduler:"
# A message that waited for its time says by which one it was scheduled.
EXPIRED = "not started within the time that its caller gave it"

log = structlog.get_logger()


class Settlement(enum.Enum):
    """What becomes of a delivery."""

    DONE = "acknowledged: what follows is written elsewhere, or the call has ended"
    HANDED_BACK = "given back to the queue at once, for another worker"
    REJECTED = "removed from the queue: it cannot be read, now or ever"


class Slots:
    """Runs the calls of one queue, a fixed number at once."""

    def __init__(
        self,
        settings: WorkerSettings,
        nats: NatsSettings,
        *,
        connection: Connection,
        consumer: Consumer,
        publisher: Publisher,
        functions: Directory,
        policies: Policies,
        runner: Runner,
        endings: Endings,
        records: Records,
        running: RunningCalls,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._runner = runner
        self._endings = endings
        self._records = records
        self._running = running
        self._tasks = tasks
        self._policies = policies
        self._metrics = telemetry.WorkerMetrics(settings.queue)
        self._working: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._concurrency = Concurrency(settings.max_inflight)
        self._turns = Turns(settings.max_inflight, self._concurrency)
        self._lanes = Lanes(
            settings,
            nats,
            connection=connection,
            publisher=publisher,
            line=consumer,
            functions=functions,
            turns=self._turns,
            concurrency=self._concurrency,
            run=self._take,
            tasks=tasks,
        )

    def start(self) -> None:
        """Open the slots."""
        self._lanes.start()
        # What stands in the line never gets the slots that are kept; lanes, and the sorting of a jam, lead to those.
        for number in range(self._settings.max_inflight - kept_of(self._settings.max_inflight)):
            self._own(self._run_slot(), f"slot {number}")

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, let those under way end within the grace time, hand back the rest."""
        self._consumer.stop()
        self._turns.stop()
        if self._running:
            log.info("finishing calls", running=len(self._running), grace_s=grace_s)
        apart = self._loop.create_task(self._lanes.stop(grace_s))
        await asyncio.wait((*self._working, apart), timeout=grace_s)
        for task in self._working:
            task.cancel()
        await apart

    def _own(self, work: Coroutine[None, None, None], name: str) -> None:
        task = self._tasks.create_task(work, name=name)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _run_slot(self) -> None:
        """Take and run one call after the other until the consumer is stopped."""
        while True:
            try:
                delivery = await self._consumer.next()
            except Stopped:
                return
            await self._take(delivery, self._consumer, None)

    async def _take(self, delivery: Delivery, consumer: Consumer, lane: Lane | None) -> None:
        """Lead one delivery to its settlement; `lane` is where it stood, None for the line."""
        settlement = Settlement.HANDED_BACK
        # What is cancelled, or fails by a mistake of ours, goes back to the queue.
        try:
            settlement = await self._process(delivery, lane)
        except Stopped:
            pass  # its turn did not come
        except QueueRefused as error:
            log.error("call cannot be ended, handed back", subject=delivery.subject, error=str(error))  # noqa: TRY400
        except Exception:
            # A mistake of ours must cost this call some of its deliveries, and not every other call its worker.
            log.exception("call handed back after an error", subject=delivery.subject)
        finally:
            self._settle(delivery, settlement)
            consumer.free()

    async def _process(self, delivery: Delivery, lane: Lane | None) -> Settlement:
        """Wait for a call's turn and lead it through its steps; gives what is to become of its delivery."""
        try:
            invocation = from_delivery(delivery.subject, delivery.headers, delivery.payload)
        except Undecodable as error:
            telemetry.UNREADABLE.inc()
            log.error("message cannot be read, removed", subject=delivery.subject, error=str(error))  # noqa: TRY400
            return Settlement.REJECTED
        ref = invocation.function
        # A first delivery of a first run has no record of its own: nothing to look up on the usual way.
        doubtful = delivery.doubtful or bool(invocation.attempts) or was_recorded(invocation)
        if lane is None and self._lanes.apart(ref) and await self._move(invocation, doubtful=doubtful):
            return Settlement.DONE
        if not self._turns.try_begin(ref):
            if lane is None and self._turns.limited(ref) and await self._move(invocation, doubtful=doubtful):
                return Settlement.DONE
            await self._wait_for_turn(ref, lane)
            # Nobody who cancels a call while it waits here is heard; its record is written then.
            doubtful = True
        try:
            return await self._lead(delivery, invocation, doubtful=doubtful)
        finally:
            self._turns.end(ref)

    async def _move(self, invocation: Invocation, *, doubtful: bool) -> bool:
        """Move a call from the line into its function's lane; False when there is none and cannot be one."""
        if doubtful and (ended := (await self._look_up(invocation))[1]) is not None:
            await self._ended_before(invocation, ended)
            return True
        return await self._lanes.move(invocation)

    async def _wait_for_turn(self, ref: FunctionRef, lane: Lane | None) -> None:
        if lane is None:
            await self._turns.begin(ref)
            return
        lane.waiting += 1
        try:
            await self._turns.begin(ref)
        finally:
            lane.waiting -= 1
            self._lanes.adjust(lane)

    async def _lead(self, delivery: Delivery, invocation: Invocation, *, doubtful: bool) -> Settlement:
        """Run a call whose turn it is, and end it."""
        running = self._running.begin(invocation)
        counters = self._metrics[invocation.function]
        counters.began()
        if delivery.delivered == 1 and not invocation.attempts and _SCHEDULED not in delivery.headers:
            # 0.7 µs. The clocks may be those of two machines.
            self._metrics.waited(max(0, time.time_ns() - invocation.accepted_at_ns) / 1e9)
        status = 0
        try:
            if doubtful:
                running.sequence, ended = await self._look_up(invocation)
                if ended is not None:
                    await self._ended_before(invocation, ended)
                    return Settlement.DONE
            if invocation.expires_at_ns is not None and time.time_ns() > invocation.expires_at_ns:
                await self._endings.end(running, _expired(), End(CallStatus.EXPIRED, EXPIRED))
                return Settlement.DONE
            outcome = await self._run(running, delivery)
            if outcome is None:
                await self._endings.cancelled(running)
                return Settlement.DONE
            status = outcome.status
            self._learn(running, outcome)
            if succeeded(outcome):
                # HOT: nothing to decide for nearly all calls.
                await self._endings.end(running, outcome, SUCCEEDED)
            else:
                await self._finish(running, outcome)
            return Settlement.DONE
        finally:
            self._running.end(running)
            if status:
                counters.ended(status)
            else:
                counters.handed_back()

    async def _ended_before(self, invocation: Invocation, ended: Stored) -> None:
        """A call with an end is not run again; its receiver is told, if its worker may have died before that."""
        telemetry.DUPLICATES_AVOIDED.labels("recorded").inc()
        if ended.record.owes_callback and not ended.record.callback_attempts:
            await self._endings.tell(invocation, ended)

    async def _look_up(self, invocation: Invocation) -> tuple[int, Stored | None]:
        """The sequence of the record that this call's replaces, 0 for none, and the record of its end if it has one."""
        stored = await insist(lambda: self._records.read(invocation.call_id))
        if stored is None:
            return 0, None
        if isinstance(stored, AgedOut):
            return stored.sequence, None
        if stored.record.message_id != invocation.message_id:
            return 0 if stored.record.accepted_at_ns > invocation.accepted_at_ns else stored.sequence, None
        return stored.sequence, stored if stored.record.status.is_end else None

    def _learn(self, running: Running, outcome: Outcome) -> None:
        """Note what an answer says of how many calls its function takes. HOT: next to nothing while all is well."""
        ref = running.invocation.function
        if outcome.status in TOO_MANY and outcome.failure is None:
            now = self._loop.time()
            wait_s = retry_after_s(outcome.headers, datetime.now(UTC))
            self._concurrency.too_many(ref, self._turns.running(ref), running.since, now, wait_s)
            if wait_s:
                self._loop.call_later(min(wait_s, LONGEST_HOLD_S), self._turns.look_again)
        elif self._concurrency:
            self._concurrency.well(ref, running.since)

    async def _run(self, running: Running, delivery: Delivery) -> Outcome | None:
        """Run the function; None when the call was cancelled meanwhile."""
        invocation = running.invocation
        if self._settings.write_debug:
            log.info("call", call_id=invocation.call_id, function=str(invocation.function), message=invocation.request)
        if running.was_cancelled():
            return None
        if delivery.delivered > self._settings.max_deliveries:
            why = f"given up: {delivery.delivered - 1} workers ended while they ran this call"
            return no_answer(500, why, 0.0, time.time_ns())
        task = running.task = asyncio.current_task()
        try:
            outcome = await self._runner.run(invocation)
        except asyncio.CancelledError:
            # Whose wish was it? A stop of the worker goes on; the end of this one call stays here.
            if task is None or not running.was_cancelled() or task.uncancel():
                raise
            return None
        finally:
            running.task = None
        running.ended = True
        self._log(invocation, outcome)
        return outcome

    def _log(self, invocation: Invocation, outcome: Outcome) -> None:
        if self._settings.print_body:
            log.info("answer", call_id=invocation.call_id, body=outcome.body)
        if outcome.failure is not None:
            log.warning(
                "call ended without an answer",
                call_id=invocation.call_id,
                function=str(invocation.function),
                status=outcome.status,
                reason=outcome.failure,
            )

    async def _finish(self, running: Running, outcome: Outcome) -> None:
        """Decide what follows a failure, then act."""
        invocation = running.invocation
        decision = decide(
            outcome,
            len(invocation.attempts),
            self._policies[invocation.function],
            now=datetime.now(UTC),
            dice=random.random(),  # noqa: S311 - spreads load, hides nothing
        )
        match decision:
            case RunAgain():
                await self._endings.run_again(running, outcome, decision)
            case End():
                await self._endings.end(running, outcome, decision)

    @staticmethod
    def _settle(delivery: Delivery, settlement: Settlement) -> None:
        """The only place where a delivery is acknowledged, handed back or removed."""
        match settlement:
            case Settlement.DONE:
                delivery.ack()
            case Settlement.HANDED_BACK:
                delivery.nak()
            case Settlement.REJECTED:
                delivery.term("cannot be read")


def _expired() -> Outcome:
    """What stands for the answer of a call that was not run any more."""
    return no_answer(504, EXPIRED, 0.0, time.time_ns())
