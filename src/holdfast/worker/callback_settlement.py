"""Settle what one attempt to call back has come to: note it, have it tried again, or give it up.

Used for first attempts and for those that follow. What is written comes before what it replaces is taken away:

    failed       parked for its next attempt, or kept as a dead letter -> noted in the call's record
    sent away    the same, when its receiver may not be asked now; that is not counted as an attempt
    delivered    noted in the record -> a parked copy removed

Who makes the attempts, and what becomes of the messages that brought them, is first_attempt.py's and
callback_queue.py's.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog

from holdfast import telemetry
from holdfast.invocation import Invocation
from holdfast.queue import dead_letter, parked_callback
from holdfast.queue.connection import Connection
from holdfast.queue.dead_letter import DeadCallback
from holdfast.queue.parked_callback import ParkedCallback
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallbackStatus, CallRecord, UnreadableRecord
from holdfast.queue.records import Records, Stored
from holdfast.queue.waiting import remove_callback, remove_parked
from holdfast.worker.callback import CallbackFailed, Callbacks, Destination
from holdfast.worker.insist import insist

log = structlog.get_logger()


class CallbackState(NamedTuple):
    """What a record says of a callback: its last fields, in their order."""

    status: CallbackStatus
    attempts: int = 0
    error: str | None = None
    next_at_ns: int | None = None


NO_CALLBACK = CallbackState(CallbackStatus.NONE)
DELIVERED = CallbackState(CallbackStatus.DELIVERED, 1)


class CallbackSettlement:
    """Settles the attempts of one worker."""

    def __init__(self, connection: Connection, publisher: Publisher, records: Records, callbacks: Callbacks) -> None:
        self._connection = connection
        self._publisher = publisher
        self._records = records
        self._callbacks = callbacks

    async def failed(self, tried: ParkedCallback, error: CallbackFailed) -> CallbackState:
        """Park a callback that failed, or give it up; gives what is to be said of it. `tried` counts the attempt."""
        if self._callbacks.gives_up(tried.attempts, error):
            await self.give_up(tried, error)
            return CallbackState(CallbackStatus.FAILED, tried.attempts, str(error))
        wait_s = self._callbacks.wait_s(tried.attempts, error, dice=random.random())  # noqa: S311 - spreads load
        at = datetime.now(UTC) + timedelta(seconds=wait_s)
        await self.park(tried, at)
        log.info(
            "callback attempt failed",
            call_id=tried.invocation.call_id,
            function=str(tried.invocation.function),
            to=tried.url,
            attempt=tried.attempts,
            error=str(error),
            next_attempt_at=at.isoformat(timespec="milliseconds"),
        )
        return _pending(tried, str(error), at)

    async def sent_away(self, parked: ParkedCallback, to: Destination) -> CallbackState:
        """Park a callback whose receiver may not be asked now; or give it up, when it has waited for too long."""
        receivers = self._callbacks.receivers
        why = receivers.trouble(to.receiver)
        if parked.attempts and self._callbacks.is_too_late(parked.first_at_ns):
            await self.give_up(parked, CallbackFailed(f"given up while it waited: {why}", final=True))
            return CallbackState(CallbackStatus.FAILED, parked.attempts, why)
        telemetry.CALLBACKS_SENT_AWAY.inc()
        at = datetime.now(UTC) + timedelta(seconds=receivers.comes_again_s(to.receiver))
        await self.park(parked, at, f"/{time.time_ns()}")
        return _pending(parked, why, at)

    async def under_way(self, parked: ParkedCallback, limit_s: float) -> CallbackState:
        """Park a copy of a callback whose attempt takes long, for the time at which that should have ended.

        Should the worker die, the next attempt is made from there. A later copy takes the place of this one.
        """
        error = CallbackFailed(f"no answer within {limit_s:g} s")
        wait_s = limit_s + self._callbacks.wait_s(parked.attempts, error, dice=random.random())  # noqa: S311 - as above
        at = datetime.now(UTC) + timedelta(seconds=wait_s)
        await self.park(parked, at, "/under-way")
        return _pending(replace(parked, attempts=parked.attempts - 1), None, at)

    async def park(self, parked: ParkedCallback, at: datetime, word: str = "") -> None:
        """Have it tried again at an instant; a copy that waits for another one is replaced. Raises QueueRefused."""
        publication = parked_callback.to_publish(parked, at, word)
        await insist(lambda: self._publisher.confirm(*publication))

    async def give_up(self, parked: ParkedCallback, error: CallbackFailed) -> None:
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
        await insist(lambda: self._publisher.confirm(*letter))

    async def is_settled(self, invocation: Invocation) -> bool:
        """Whether the record says that it was delivered, or cancelled: the message is taken away after that is written.

        One question for each attempt after the first; its leader answers it, since a replica may not know yet.
        """
        try:
            stored = await insist(lambda: self._records.read(invocation.call_id, surely=True))
        except UnreadableRecord as error:
            _say_unreadable(invocation, error)
            return False
        return (
            isinstance(stored, Stored)
            and stored.record.message_id == invocation.message_id
            and stored.record.callback in {CallbackStatus.CANCELLED, CallbackStatus.DELIVERED}
        )

    async def note(self, invocation: Invocation, state: CallbackState) -> None:
        """Write into the call's record what became of its callback, as long as there is one.

        One that was cancelled while it was tried stays so, and what was parked or kept of it is removed. So is a copy
        that was parked while an attempt that delivered it took long.
        """

        def noted(record: CallRecord) -> CallRecord:
            counted = record._replace(callback_attempts=state.attempts, callback_next_at_ns=None)
            if record.callback is CallbackStatus.CANCELLED and state.status is not CallbackStatus.DELIVERED:
                return counted
            return counted._replace(
                callback=state.status, callback_error=state.error, callback_next_at_ns=state.next_at_ns
            )

        try:
            record = await insist(lambda: self._records.amend(invocation.call_id, invocation.message_id, noted))
        except UnreadableRecord as unreadable:
            _say_unreadable(invocation, unreadable)
            return
        if record is not None and record.callback is CallbackStatus.CANCELLED:
            await self.remove(record)

    async def remove(self, record: CallRecord) -> None:
        """Take the callback of a call out of where it waits, and out of the dead letters."""
        await insist(lambda: remove_callback(self._connection, record))

    async def remove_parked(self, record: CallRecord) -> None:
        """Take away the copy that waits for the next attempt, when there will be none."""
        await insist(lambda: remove_parked(self._connection, record))


def _pending(parked: ParkedCallback, error: str | None, at: datetime) -> CallbackState:
    return CallbackState(CallbackStatus.PENDING, parked.attempts, error, int(at.timestamp() * 1e9))


def _say_unreadable(invocation: Invocation, error: UnreadableRecord) -> None:
    """A damaged record says nothing of the callback, which is owed all the same."""
    log.error("record of a callback cannot be read", call_id=invocation.call_id, error=str(error))
