"""The calls that are being run here: how long, which of them have a record, and how one of them is cancelled.

A call that ends within INTERIM_AFTER_S never gets here more than noted and forgotten, which is why a short call costs
one record. One timer looks at all: those that take longer get the record `running`, and the first attempt to call back
that takes longer is parked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from holdfast.invocation import CallId, Invocation
from holdfast.owed import NO_SLOT, OWED
from holdfast.queue import wire
from holdfast.queue.connection import Connection
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.queue.records import Records, Stored
from holdfast.queue.wire import Msg
from holdfast.unexpected import Work, guarded
from holdfast.worker.insist import insist
from holdfast.worker.slot import Slot

INTERIM_AFTER_S = 1.0
PARK_AFTER_S = 1.0
LOOK_EVERY_S = 0.25
HEARD_FOR_S = 10.0
# A worker that stood still reads deliveries and cancels together; from there to a call's beginning are milliseconds.
CANCEL_PREFIX = b"holdfast.cancel."
CANCELLED = b"cancelled"
ENDED = b"ended"

log = structlog.get_logger()


class Running:
    """One call, from its being taken to its settlement and the end of the first attempt to call back."""

    __slots__ = (
        "cancelled",
        "ended",
        "interim",
        "invocation",
        "owes",
        "park",
        "parking",
        "sequence",
        "since",
        "slot",
        "stopped",
        "task",
        "told_since",
        "written",
    )

    def __init__(self, invocation: Invocation, slot: Slot, since: float) -> None:
        self.invocation = invocation
        self.slot = slot
        """Where it is run; left before its callback is waited for."""
        self.park: Callable[[], None] | None = None
        """Has its callback parked, while the first attempt is under way and that has not been done."""
        self.parking: asyncio.Task[CallRecord | None] | None = None
        """Parks it; gives the record that says so."""
        self.told_since = 0.0
        """When the first attempt to call back began, by the loop's clock."""
        self.owes = NO_SLOT
        """The count of the call's end, from before its record is sent until it is counted."""
        self.sequence = 0
        """Of the record that the next write replaces; 0: there is none."""
        self.since = since
        """When the call was taken, by the loop's clock."""
        self.task: asyncio.Task[None] | None = None
        """The slot's task while the function runs: what a cancel ends. None before and after."""
        self.stopped: asyncio.Future[bool] | None = None
        """Whether it was cancelled in the end, once that is written down; made by the first cancel."""
        self.cancelled = False
        self.ended = False
        """Whether the function's run has ended: too late to cancel."""
        self.written = False
        """Whether a record was written that says that it runs."""
        self.interim: asyncio.Future[None] | None = None

    def interim_due(self) -> bool:
        """Whether a call that is run for long has no record of that, and none is on its way."""
        return self.interim is None and not self.written and not self.ended

    def settle_owed(self, *, doubtful: bool = False) -> None:
        """No count is owed any more, or nobody here learns whether it is."""
        owes, self.owes = self.owes, NO_SLOT
        if doubtful:
            OWED.doubt(owes)
        else:
            OWED.strike(owes)

    def was_cancelled(self) -> bool:
        """Whether somebody cancelled the call while it was here."""
        return self.cancelled

    def told(self, *, cancelled: bool) -> None:
        """Whoever wants it cancelled can be told: it is, and its record says so; or it has left here otherwise."""
        if self.stopped is not None and not self.stopped.done():
            self.stopped.set_result(cancelled)


class RunningCalls:
    """All calls in the slots of one worker."""

    def __init__(self, connection: Connection, records: Records, queue: str) -> None:
        self._connection = connection
        self._queue = queue
        self._records = records
        self._loop = asyncio.get_running_loop()
        self._calls: dict[str, Running] = {}
        self._heard: dict[CallId, int] = {}
        """Cancels of calls that are not here, and when they were heard: one may lie behind us, read and not begun."""
        self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)
        self._sid = connection.subscribe(CANCEL_PREFIX + b"*", self._cancel)

    def __len__(self) -> int:
        return len(self._calls)

    def begin(self, invocation: Invocation, slot: Slot) -> Running:
        """Note a call. HOT: no record is made, as most calls end before they deserve one."""
        running = self._calls[invocation.message_id] = Running(invocation, slot, self._loop.time())
        if self._heard and invocation.accepted_at_ns <= self._heard.get(invocation.call_id, -1):
            running.cancelled = True
        return running

    async def was_cancelled(self, invocation: Invocation) -> bool:
        """Whether a call's record says that it was cancelled: for one that is to be run again after a fault."""
        stored = await insist(lambda: self._records.read(invocation.call_id, surely=True))
        return (
            isinstance(stored, Stored)
            and stored.record.message_id == invocation.message_id
            and stored.record.status is CallStatus.CANCELLED
        )

    def end(self, running: Running) -> None:
        """Forget a call. What it still owes was sent and not confirmed, as when the worker stops meanwhile."""
        if running.owes:
            running.settle_owed(doubtful=True)
        self._calls.pop(running.invocation.message_id, None)
        if running.stopped is not None:
            running.told(cancelled=False)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()
        self._connection.unsubscribe(self._sid)

    @guarded(Work.RUNNING)
    def _look(self) -> None:
        """Write the records of the calls that take long, and park the callbacks that do."""
        self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)
        if self._heard:
            old = time.time_ns() - int(HEARD_FOR_S * 1e9)
            self._heard = {call_id: at for call_id, at in self._heard.items() if at > old}
        now = self._loop.time()
        before = now - INTERIM_AFTER_S
        for running in self._calls.values():
            # In the order of their beginning: behind the first young one are only younger ones.
            if running.since > before:
                break
            if running.interim_due():
                self._write(running)
            elif running.park is not None and running.told_since <= now - PARK_AFTER_S:
                running.park()

    @guarded(Work.RUNNING)  # one record that cannot be made must not keep those of the others
    def _write(self, running: Running) -> None:
        record = self._record_of_run(running)
        interim: asyncio.Future[None] = self._loop.create_future()
        running.interim = interim

        def written(error: Exception | None, sequence: int) -> None:
            running.interim = None
            running.written = True
            if error is None:
                running.sequence = sequence
            else:
                # The record at the end is what counts; it finds out what stands there.
                log.debug("interim record not written", call_id=record.call_id, error=str(error))
            interim.set_result(None)

        self._records.write(record, b"", running.sequence, written)

    def _record_of_run(self, running: Running) -> CallRecord:
        since_ns = time.time_ns() - int((self._loop.time() - running.since) * 1e9)
        return CallRecord.of(running.invocation, self._queue, CallStatus.RUNNING, since_ns)

    def _cancel(self, message: Msg) -> None:
        """Somebody wants a call to be stopped: `holdfast.cancel.<call id>`. Only who runs it answers.

        With `cancelled` not before the run has ended and the record says so: whoever is answered relies on it that no
        run begins any more, though this process should be killed.
        """
        call_id = CallId(message.subject[len(CANCEL_PREFIX) :].decode("ascii", "replace"))
        stopping: list[asyncio.Future[bool]] = []
        ended = False
        for running in self._calls.values():
            if running.invocation.call_id != call_id:
                continue
            if running.ended:
                ended = True
                continue
            running.cancelled = True
            if running.stopped is None:
                running.stopped = self._loop.create_future()
                if running.task is not None:
                    running.task.cancel()
            stopping.append(running.stopped)
        if stopping:
            asyncio.gather(*stopping).add_done_callback(
                lambda stopped: self._answer(message.reply, CANCELLED) if all(stopped.result()) else None
            )
        elif ended:
            self._answer(message.reply, ENDED)
        else:
            self._heard[call_id] = time.time_ns()

    def _answer(self, reply: bytes, answer: bytes) -> None:
        if reply and self._connection.connected:
            self._connection.send(wire.pub(reply, answer))
