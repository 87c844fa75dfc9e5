"""The slots of a worker: each takes one call after the other and leads it through its steps.

    take -> read -> wait for its turn -> run -> decide -> (leave the slot) -> end -> settle

Only `Slot.settle` acknowledges. Steps that see a delivery return what is to become of it. A call that cannot have its
turn soon is moved out of the line, into its function's lane; whose turn it is, and who has a lane, is turns.py's and
lanes.py's.

Each slot of the line is served by a task, its hand, and a hand is busy with a call until that is settled. So when a
call leaves its slot earlier, another hand is needed; as many as there are slots are kept for that.
"""

from __future__ import annotations

import asyncio
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
from holdfast.queue.message import Undecodable, from_delivery, was_moved_into_lane, was_recorded, was_scheduled
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallStatus, UnreadableRecord
from holdfast.queue.records import AgedOut, Records, Stored
from holdfast.settings import NatsSettings, WorkerSettings
from holdfast.unexpected import Work, forever, guarded, set_aside
from holdfast.worker.attempt import Runner
from holdfast.worker.concurrency import LONGEST_HOLD_S, TOO_MANY, Concurrency
from holdfast.worker.decision import SUCCEEDED, End, RunAgain, decide, succeeded
from holdfast.worker.endings import Endings
from holdfast.worker.insist import insist
from holdfast.worker.lane import Lane
from holdfast.worker.lanes import Lanes
from holdfast.worker.outcome import Outcome, no_answer
from holdfast.worker.policies import Policies
from holdfast.worker.providers import Providers
from holdfast.worker.retry import retry_after_s
from holdfast.worker.running import Running, RunningCalls
from holdfast.worker.slot import Settlement, Slot, WhenLeft
from holdfast.worker.turns import Turns, kept_of

NOT_DEPLOYED = 404
# Of an outcome without an answer.
AGAIN_AFTER_S = 1.0
EXPIRED = "not started within the time that its caller gave it"

log = structlog.get_logger()


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
        providers: Providers,
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
        self._functions = functions
        self._providers = providers
        self._metrics = telemetry.WorkerMetrics(settings.queue)
        # What stands in the line never gets the slots that are kept; lanes, and the sorting of a jam, lead to those.
        self._line_slots = settings.max_inflight - kept_of(settings.max_inflight)
        self._hands = 0
        """Hands that wait for a call, or have one that has not left its slot."""
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
            providers=providers,
            run=self._take,
            tasks=tasks,
        )

    def start(self) -> None:
        """Open the slots."""
        self._lanes.start()
        for _ in range(self._line_slots):
            self._one_more_hand()

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

    def _one_more_hand(self) -> None:
        self._hands += 1
        self._own(self._serve(), "slot")

    async def _serve(self) -> None:
        """Take and run one call after the other until the consumer is stopped, or there are hands enough."""
        await forever(Work.RUNNING, self._serve_many, until=Stopped)

    async def _serve_many(self) -> None:
        consumer, most = self._consumer, 2 * self._line_slots
        while True:
            delivery = await consumer.next()
            await self._take(delivery, consumer, None, self._hand_left)
            if self._hands >= most:
                raise Stopped("there are hands enough")
            self._hands += 1

    def _hand_left(self) -> None:
        """The call of a hand has left its slot: somebody else has to be there for the next one. HOT."""
        self._hands -= 1
        if self._hands < self._line_slots:
            self._one_more_hand()

    async def _take(self, delivery: Delivery, consumer: Consumer, lane: Lane | None, when_left: WhenLeft) -> None:
        """Lead one delivery to its settlement; `lane` is where it stood, None for the line."""
        slot = Slot(delivery, consumer, lane, self._turns, when_left)
        settlement = Settlement.HANDED_BACK
        # What is cancelled, or fails by a mistake of ours, goes back to the queue.
        try:
            settlement = await self._process(slot)
        except Stopped:
            pass  # its turn did not come
        except QueueRefused as error:
            log.error("call cannot be ended, handed back", subject=delivery.subject, error=str(error))  # noqa: TRY400
            await self._not_at_once(slot)
        except Exception as error:  # noqa: BLE001 - a mistake costs this call some deliveries, and no other its worker
            set_aside(Work.RUNNING, error, subject=delivery.subject, delivered=delivery.delivered)
            await self._not_at_once(slot)
        finally:
            slot.settle(settlement)
            slot.leave()

    @staticmethod
    async def _not_at_once(slot: Slot) -> None:
        """What is handed back comes again at once: what has failed here waits before that, and holds no slot."""
        slot.leave()
        await asyncio.sleep(AGAIN_AFTER_S)

    async def _process(self, slot: Slot) -> Settlement:
        """Wait for a call's turn and lead it through its steps; gives what is to become of its delivery."""
        delivery, lane = slot.delivery, slot.lane
        try:
            invocation = from_delivery(delivery.subject, delivery.headers, delivery.payload)
        except Undecodable as error:
            telemetry.UNREADABLE.inc()
            log.error("message cannot be read, removed", subject=delivery.subject, error=str(error))  # noqa: TRY400
            return Settlement.REJECTED
        ref = invocation.function
        headers = delivery.headers
        scheduled = was_scheduled(headers)
        # A first delivery of a first run has no record of its own: nothing to look up on the usual way. Who cancels a
        # call in the moment in which it moves may find it in neither place: the record tells then.
        doubtful = (
            delivery.doubtful
            or scheduled
            or bool(invocation.attempts)
            or was_recorded(invocation)
            or (lane is not None and was_moved_into_lane(headers))
        )
        first = delivery.delivered == 1 and not (scheduled or invocation.attempts)
        if invocation.provider and invocation.provider != self._functions.provider_id:
            other = await self._providers.meant(invocation)
            if other:
                await self._hand_over(invocation, other, doubtful=doubtful)
                return Settlement.DONE
        if lane is None and self._lanes.apart(ref) and await self._move(invocation, doubtful=doubtful):
            return Settlement.DONE
        if not self._turns.try_begin(ref):
            if lane is None and self._turns.limited(ref) and await self._move(invocation, doubtful=doubtful):
                return Settlement.DONE
            await self._wait_for_turn(ref, lane)
            # Nobody who cancels a call while it waits here is heard; its record is written then.
            doubtful = True
        slot.begun(ref)
        return await self._lead(slot, invocation, doubtful=doubtful, first=first)

    async def _move(self, invocation: Invocation, *, doubtful: bool) -> bool:
        """Move a call from the line into its function's lane; False when there is none and cannot be one."""
        if doubtful and (ended := (await self._look_up(invocation))[1]) is not None:
            await self._ended_before(invocation, ended)
            return True
        return await self._lanes.move(invocation)

    async def _hand_over(self, invocation: Invocation, provider: str, *, doubtful: bool) -> None:
        """Move a call to the workers of another provider."""
        if doubtful and (ended := (await self._look_up(invocation))[1]) is not None:
            await self._ended_before(invocation, ended)
            return
        await self._providers.hand_over(invocation, provider)

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

    async def _lead(self, slot: Slot, invocation: Invocation, *, doubtful: bool, first: bool) -> Settlement:
        """Run a call whose turn it is, and end it; `first` is the first run of one that was not delayed."""
        delivery = slot.delivery
        running = self._running.begin(invocation, slot)
        counters = self._metrics[invocation.function]
        counters.began()
        if first:
            # 0.7 µs. The clocks may be those of two machines.
            self._metrics.waited(max(0, time.time_ns() - invocation.accepted_at_ns) / 1e9)
        was_run = False
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
                running.told(cancelled=await self._endings.cancelled(running))
                return Settlement.DONE
            if outcome.status == NOT_DEPLOYED and outcome.failure is not None:
                other = await self._providers.next_after(invocation)
                if other and not running.was_cancelled():
                    await self._providers.hand_over(invocation, other)
                    return Settlement.DONE
            was_run = True
            counters.ended(outcome.status)
            self._learn(running, outcome)
            if succeeded(outcome):
                # HOT: nothing to decide for nearly all calls.
                await self._endings.end(running, outcome, SUCCEEDED)
            else:
                await self._finish(running, outcome)
            return Settlement.DONE
        finally:
            self._running.end(running)
            if not was_run:
                counters.handed_back()

    async def _ended_before(self, invocation: Invocation, ended: Stored) -> None:
        """A call with an end is not run again; its receiver is told, if its worker may have died before that."""
        telemetry.DUPLICATES_AVOIDED.labels("recorded").inc()
        record = ended.record
        if record.owes_callback and not record.callback_attempts and record.callback_next_at_ns is None:
            await self._endings.tell(invocation, ended)

    async def _look_up(self, invocation: Invocation) -> tuple[int, Stored | None]:
        """The sequence of the record that this call's replaces, 0 for none, and the record of its end if it has one."""
        try:
            stored = await insist(lambda: self._records.read(invocation.call_id, surely=True))
        except UnreadableRecord as error:
            return error.sequence, None  # it says nothing of the call, and is replaced when that ends
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
                self._loop.call_later(min(wait_s, LONGEST_HOLD_S), guarded(Work.RUNNING)(self._turns.look_again))
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
            why = f"given up: it was taken up {delivery.delivered - 1} times, and no worker brought it to an end"
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
        if outcome is None:
            return None
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


def _expired() -> Outcome:
    """What stands for the answer of a call that was not run any more."""
    return no_answer(504, EXPIRED, 0.0, time.time_ns())
