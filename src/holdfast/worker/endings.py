"""Carry out what was decided of a call: park a retry, write a dead letter, call back, write the record.

The order is such that a crash between two steps breaks nothing:

    retry    parked -> recorded                       a crash: parked again, once, by its message id
    end      dead letter -> callback -> recorded      a crash: run again, as "at least once" allows
    callback failed: parked -> recorded               a crash: parked again; the function is not run again
    callback given up: dead letter -> recorded        a crash: tried and given up again, into the same letter
    callback under way: recorded as pending           a crash: parked from the record by who gets the call next
    callback cancelled meanwhile: -> removed again    a crash: the record says so, and is read before each attempt

and only then the delivery is acknowledged, by the caller. To send record and acknowledgement together would save a
round trip and lose records: the server puts them into the queues of two streams, each stored in its own time, and one
that is killed in between may keep the acknowledgement alone. While NATS is away each step waits for it: what a call
gave is not thrown away because it cannot be written this moment.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

import structlog

from holdfast import telemetry
from holdfast.errors import QueueUnavailable
from holdfast.invocation import Attempt, Invocation
from holdfast.queue import dead_letter, parked_callback
from holdfast.queue.answer import KeptAnswer
from holdfast.queue.body_sweep import BodySweep
from holdfast.queue.connection import Connection
from holdfast.queue.dead_letter import DeadCallback, DeadLetter
from holdfast.queue.message import Publication, to_publish_later
from holdfast.queue.parked_callback import ParkedCallback
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallbackStatus, CallRecord, CallStatus, Result
from holdfast.queue.records import AgedOut, Conflict, Records, Stored
from holdfast.queue.waiting import remove_callback
from holdfast.worker.callback import CallbackFailed, Callbacks
from holdfast.worker.decision import End, RunAgain
from holdfast.worker.insist import insist
from holdfast.worker.outcome import Outcome
from holdfast.worker.running import Running

MOST_ERROR_LETTERS = 200
ERRORS_KEPT = 20
# 1000 attempts of 42 bytes, and 20 texts of at most 200 letters, each six bytes in JSON at worst.


class _Callback(NamedTuple):
    """What became of a call's callback: the last fields of a record, in their order."""

    status: CallbackStatus
    attempts: int = 0
    error: str | None = None


NO_CALLBACK = _Callback(CallbackStatus.NONE)
PENDING = _Callback(CallbackStatus.PENDING)
DELIVERED = _Callback(CallbackStatus.DELIVERED, 1)


class _Ending(NamedTuple):
    """The end of a call, as far as it was decided before its callback."""

    invocation: Invocation
    queue: str
    outcome: Outcome
    end: End
    at_ns: int
    url: str | None
    """Where the callback goes; None: nobody is told."""

    def record(self, callback: _Callback) -> CallRecord:
        """The record that is kept. HOT: all fields in their order, 0.6 µs."""
        invocation, outcome, status = self.invocation, self.outcome, self.end.status
        attempts = invocation.attempts
        return CallRecord(
            invocation.call_id,
            invocation.message_id,
            invocation.function,
            self.queue,
            status,
            invocation.accepted_at_ns,
            attempts if status is CallStatus.EXPIRED else (*attempts, _attempt(outcome)),
            None,
            None,
            self.at_ns,
            Result(outcome.status, outcome.headers, outcome.size, outcome.stored),
            self.end.reason,
            self.url,
            *callback,
        )


log = structlog.get_logger()


class Endings:
    """Ends the runs of one worker's calls."""

    def __init__(
        self,
        *,
        queue: str,
        connection: Connection,
        publisher: Publisher,
        records: Records,
        callbacks: Callbacks,
        sweep: BodySweep,
    ) -> None:
        self._queue = queue
        self._connection = connection
        self._publisher = publisher
        self._records = records
        self._callbacks = callbacks
        self._sweep = sweep

    async def run_again(self, running: Running, outcome: Outcome, again: RunAgain) -> None:
        """Park the call until its next run."""
        invocation = running.invocation
        at = datetime.now(UTC) + timedelta(seconds=again.wait_s)
        attempts = _fitting((*invocation.attempts, _attempt(outcome)))
        await self._store(to_publish_later(self._queue, invocation._replace(attempts=attempts), at))
        telemetry.RETRIES.labels(str(invocation.function), outcome.word).inc()
        record = CallRecord.of(invocation, self._queue, CallStatus.RETRYING)._replace(
            attempts=attempts, next_attempt_at_ns=int(at.timestamp() * 1e9)
        )
        await self._keep(running, record, b"")

    async def end(self, running: Running, outcome: Outcome, end: End) -> None:
        """The call has ended: tell whoever asked to be told, and write it down. HOT."""
        invocation = running.invocation
        at_ns = time.time_ns()
        failed = end.status is CallStatus.FAILED
        url = invocation.callback_url
        if failed and invocation.failure_callback_url is not None:
            url = invocation.failure_callback_url
        callback = NO_CALLBACK
        ending = _Ending(invocation, self._queue, outcome, end, at_ns, url)
        if outcome.stored is not None:
            self._sweep.kept(outcome.stored)
        if failed:
            letter = DeadLetter(invocation, self._queue, at_ns, end.reason or "", _answer(outcome))
            await self._store(dead_letter.to_publish(letter))
            telemetry.DEAD_LETTERS.labels(str(invocation.function), outcome.word).inc()
        if url is not None:
            # From here on a look at the calls that take long writes this instead of `running`.
            running.body = outcome.body
            running.ending = partial(ending.record, PENDING)
            callback = await self._call_back(invocation, url, outcome)
        await self._keep(running, ending.record(callback), outcome.body)
        if invocation.body is not None and not failed:
            self._sweep.ended(invocation.body)

    async def cancelled(self, running: Running) -> None:
        """The call was cancelled while it was run: nobody is called back."""
        invocation = running.invocation
        record = CallRecord.of(invocation, self._queue, CallStatus.RUNNING)
        await self._keep(running, record.cancelled(time.time_ns(), "cancelled while it was run"), b"")
        if invocation.body is not None:
            self._sweep.ended(invocation.body)

    async def tell(self, invocation: Invocation, ended: Stored) -> None:
        """Call back with what the record holds: the worker that was at it first died, or lost its lease.

        Its receiver may be told twice, as ever when a worker dies. The attempt is made apart from the slots.
        """
        record = ended.record
        result, url = record.result, record.callback_url
        if result is None or url is None:
            return
        answer = KeptAnswer(result.status, result.headers, ended.body, result.stored)
        duration_s = record.attempts[-1].duration_s if record.attempts else 0.0
        parked = ParkedCallback(invocation, url, self._queue, answer, duration_s, 0, time.time_ns())
        await self._store(parked_callback.to_publish_now(parked, f"callback/{invocation.message_id}/anew"))

    async def _call_back(self, invocation: Invocation, url: str, outcome: Outcome) -> _Callback:
        """The first attempt; a failed one is parked. Gives what became of it."""
        first_at_ns = time.time_ns()
        try:
            await self._callbacks.try_once(invocation, url, outcome)
        except CallbackFailed as error:
            parked = ParkedCallback(invocation, url, self._queue, _answer(outcome), outcome.duration_s, 1, first_at_ns)
            if self._callbacks.gives_up(1, error):
                await give_up(self._publisher, parked, error)
                return _Callback(CallbackStatus.FAILED, 1, str(error))
            log.warning(
                "callback failed, trying again",
                call_id=invocation.call_id,
                function=str(invocation.function),
                to=url,
                error=str(error),
            )
            wait_s = self._callbacks.wait_s(1, dice=random.random())  # noqa: S311 - spreads load, hides nothing
            at = datetime.now(UTC) + timedelta(seconds=max(wait_s, error.retry_after_s or 0.0))
            await self._store(parked_callback.to_publish(parked, at))
            return _Callback(CallbackStatus.PENDING, 1, str(error))
        return DELIVERED

    async def _store(self, publication: Publication) -> None:
        """Publish, however long NATS is away. Raises QueueRefused."""
        await insist(lambda: self._publisher.confirm(*publication))

    async def _keep(self, running: Running, record: CallRecord, body: bytes) -> None:
        """Write the record in place of whatever is there, unless the call was cancelled meanwhile. HOT."""
        if running.interim is not None:
            await running.interim
        try:
            running.sequence = await self._records.put(record, body, running.sequence)
        except (Conflict, QueueUnavailable):
            await self._keep_instead(running, record, body)
        else:
            _count_end(record)

    async def _keep_instead(self, running: Running, record: CallRecord, body: bytes) -> None:
        """Write the record though another stands there, or NATS is away: what was found out meanwhile is kept here."""
        ended_before = False
        while True:
            try:
                running.sequence = await insist(partial(self._records.put, record, body, running.sequence))
            except Conflict:
                stored = await insist(partial(self._records.read, record.call_id))
                if stored is None:
                    running.sequence = 0
                    continue
                running.sequence = stored.sequence
                if isinstance(stored, AgedOut):
                    continue
                if stored.record.message_id != record.message_id:
                    if stored.record.accepted_at_ns <= record.accepted_at_ns:
                        continue
                    # Of calls that share an id the one accepted last has the record, whichever ends first.
                    if record.status.is_end:
                        telemetry.ENDS[record.function, record.status].inc()
                    return
                if stored.record.status is CallStatus.CANCELLED:
                    # Whoever cancelled it was told so: that stands.
                    return
                # The record that was written while its callback was waited for is not of another run.
                ended_before = stored.record.status.is_end and stored.record.finished_at_ns != record.finished_at_ns
                if record.status.is_end and stays_cancelled(stored.record, record.callback):
                    await insist(partial(remove_callback, self._connection, record))
                    record = record._replace(
                        callback=CallbackStatus.CANCELLED, callback_error=stored.record.callback_error
                    )
            else:
                _count_end(record, ended_before=ended_before)
                return


def _count_end(record: CallRecord, *, ended_before: bool = False) -> None:
    """Count a record that was written, when it is that of an end."""
    if record.status.is_end:
        if ended_before:
            telemetry.RUN_TWICE.inc()
        else:
            telemetry.ENDS[record.function, record.status].inc()


def stays_cancelled(stands: CallRecord, callback: CallbackStatus) -> bool:
    """Whether a callback was cancelled while an attempt was made that ended like this.

    A receiver that has confirmed it was told: that is what the record says then.
    """
    return stands.callback is CallbackStatus.CANCELLED and callback is not CallbackStatus.DELIVERED


async def give_up(publisher: Publisher, parked: ParkedCallback, error: CallbackFailed) -> None:
    """Keep a callback that is not tried any more as a dead letter, with what it was to bring."""
    telemetry.CALLBACKS.labels("given_up").inc()
    log.error(
        "callback given up",
        call_id=parked.invocation.call_id,
        function=str(parked.invocation.function),
        to=parked.url,
        attempts=parked.attempts,
        error=str(error),
    )
    letter = dead_letter.to_publish(DeadCallback(parked, time.time_ns(), str(error)))
    await insist(lambda: publisher.confirm(*letter))


def _attempt(outcome: Outcome) -> Attempt:
    failure = None if outcome.failure is None else outcome.failure[:MOST_ERROR_LETTERS]
    return Attempt(outcome.started_at_ns, round(outcome.duration_s, 6), outcome.status, failure)


def _fitting(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """The attempts, of which only the latest keep their words: they travel in a header, which NATS limits to 64 KiB."""
    return (*(attempt._replace(error=None) for attempt in attempts[:-ERRORS_KEPT]), *attempts[-ERRORS_KEPT:])


def _answer(outcome: Outcome) -> KeptAnswer:
    return KeptAnswer(outcome.status, outcome.headers, outcome.body, outcome.stored)
