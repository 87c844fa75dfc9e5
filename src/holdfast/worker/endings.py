"""Carry out what was decided of a call: park a retry, write a dead letter, call back, write the record.

The order is such that a crash between two steps breaks nothing:

    retry    parked -> recorded                       a crash: parked again, once, by its message id
    end      dead letter -> callback -> recorded      a crash: run again, as "at least once" allows
    callback failed: parked -> recorded               a crash: parked again; the function is not run again
    callback given up: dead letter -> recorded        a crash: tried and given up again, into the same letter
    callback takes long: parked -> recorded           a crash: tried again from there; the function is not run again
    callback cancelled meanwhile: -> removed again    a crash: the record says so, and is read before each attempt

and only then the delivery is acknowledged, by the caller. How the callback is made is first_attempt.py's. To send
record and acknowledgement together would save a round trip and lose records: the server puts them into the queues of
two streams, each stored in its own time, and one that is killed in between may keep the acknowledgement alone. While
NATS is away each step waits for it: what a call gave is not thrown away because it cannot be written this moment.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog

from holdfast import owed, telemetry
from holdfast.invocation import Attempt, Invocation
from holdfast.owed import OWED
from holdfast.queue import dead_letter, parked_callback
from holdfast.queue.answer import KeptAnswer
from holdfast.queue.body_sweep import BodySweep
from holdfast.queue.connection import Connection
from holdfast.queue.dead_letter import DeadLetter
from holdfast.queue.message import Publication, to_publish_later
from holdfast.queue.parked_callback import ParkedCallback
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallRecord, CallStatus, Result
from holdfast.queue.records import Records, Stored
from holdfast.queue.waiting import remove_letter
from holdfast.worker.callback import Callbacks
from holdfast.worker.callback_settlement import NO_CALLBACK, CallbackSettlement, CallbackState
from holdfast.worker.decision import End, RunAgain
from holdfast.worker.first_attempt import FirstAttempts
from holdfast.worker.insist import insist
from holdfast.worker.outcome import Outcome
from holdfast.worker.recorder import Recorder
from holdfast.worker.running import Running

MOST_ERROR_LETTERS = 200
ERRORS_KEPT = 20
# 1000 attempts of 42 bytes, and 20 texts of at most 200 letters, each six bytes in JSON at worst.


class _Ending(NamedTuple):
    """The end of a call, as far as it was decided before its callback."""

    invocation: Invocation
    queue: str
    outcome: Outcome
    end: End
    at_ns: int
    url: str | None
    """Where the callback goes; None: nobody is told."""

    def parked(self, url: str, attempts: int) -> ParkedCallback:
        """The callback, after so many attempts."""
        outcome = self.outcome
        return ParkedCallback(
            self.invocation, url, self.queue, _answer(outcome), outcome.duration_s, attempts, self.at_ns
        )

    def record(self, callback: CallbackState) -> CallRecord:
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
            invocation.chain_id,
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
        settlement: CallbackSettlement,
        sweep: BodySweep,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._queue = queue
        self._connection = connection
        self._publisher = publisher
        self._sweep = sweep
        self._recorder = Recorder(records)
        self._first = FirstAttempts(callbacks=callbacks, settlement=settlement, recorder=self._recorder, tasks=tasks)

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
        await self._recorder.keep(running, record, b"")

    async def end(self, running: Running, outcome: Outcome, end: End) -> None:
        """The call has ended: tell whoever asked to be told, and write it down. HOT."""
        invocation = running.invocation
        at_ns = time.time_ns()
        running.owes = OWED.note(owed.ended(invocation.call_id, at_ns))
        failed = end.status is CallStatus.FAILED
        url = invocation.callback_url
        if failed and invocation.failure_callback_url is not None:
            url = invocation.failure_callback_url
        ending = _Ending(invocation, self._queue, outcome, end, at_ns, url)
        if outcome.stored is not None:
            self._sweep.kept(outcome.stored)
        if failed:
            letter = DeadLetter(invocation, self._queue, at_ns, end.reason or "", _answer(outcome))
            await self._store(dead_letter.to_publish(letter))
            telemetry.DEAD_LETTERS.labels(str(invocation.function), outcome.word).inc()
        if url is not None:
            stands = await self._first.make(running, ending, url)
        else:
            stands = await self._recorder.keep(running, ending.record(NO_CALLBACK), outcome.body)
        if failed and stands.status is not CallStatus.FAILED:
            # It was ended otherwise before, by another worker or a cancel: nothing is left to be replayed.
            await insist(lambda: remove_letter(self._connection, self._queue, invocation))
        if invocation.body is not None and not failed:
            self._sweep.ended(invocation.body)

    async def cancelled(self, running: Running) -> bool:
        """The call was cancelled while it was run: nobody is called back. False: it had ended otherwise before."""
        invocation = running.invocation
        at_ns = time.time_ns()
        running.owes = OWED.note(owed.ended(invocation.call_id, at_ns))
        record = CallRecord.of(invocation, self._queue, CallStatus.RUNNING)
        stands = await self._recorder.keep(running, record.cancelled(at_ns, "cancelled while it was run"), b"")
        if invocation.body is not None:
            self._sweep.ended(invocation.body)
        return stands.status is CallStatus.CANCELLED

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

    async def _store(self, publication: Publication) -> None:
        """Publish, however long NATS is away. Raises QueueRefused."""
        await insist(lambda: self._publisher.confirm(*publication))


def _attempt(outcome: Outcome) -> Attempt:
    failure = None if outcome.failure is None else outcome.failure[:MOST_ERROR_LETTERS]
    return Attempt(outcome.started_at_ns, round(outcome.duration_s, 6), outcome.status, failure)


def _fitting(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """The attempts, of which only the latest keep their words: they travel in a header, which NATS limits to 64 KiB."""
    return (*(attempt._replace(error=None) for attempt in attempts[:-ERRORS_KEPT]), *attempts[-ERRORS_KEPT:])


def _answer(outcome: Outcome) -> KeptAnswer:
    return KeptAnswer(outcome.status, outcome.headers, outcome.body, outcome.stored)
