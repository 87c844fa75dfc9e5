"""Call back for the first time, by the worker that ran the call: out of its slot, and soon without its delivery.

    the run has ended    -> the slot is left: another call may begin
    the receiver may not be asked now (receivers.py)
                         -> parked, recorded, and acknowledged
    it answered          -> recorded, and acknowledged: one record for the whole call, as most calls have
    it takes a second    -> parked for the time at which the attempt should have ended, recorded as pending, and
                            acknowledged; the attempt goes on, and its end replaces or removes what was parked

So a worker that is killed leaves either the delivery or a parked callback behind. A delivery that counts against the
limit of its function is kept for no attempt of a receiver that has not answered lately.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Protocol

from holdfast.invocation import Invocation
from holdfast.queue.parked_callback import ParkedCallback
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.unexpected import Work, set_aside
from holdfast.worker.callback import CallbackFailed, Callbacks
from holdfast.worker.callback_settlement import DELIVERED, CallbackSettlement, CallbackState
from holdfast.worker.outcome import Outcome
from holdfast.worker.recorder import Recorder
from holdfast.worker.running import Running
from holdfast.worker.slot import Settlement


class Ending(Protocol):
    """The end of a call, as far as it was decided before its callback."""

    @property
    def invocation(self) -> Invocation:
        """The call."""

    @property
    def outcome(self) -> Outcome:
        """What its last run gave."""

    def parked(self, url: str, attempts: int) -> ParkedCallback:
        """Its callback, after so many attempts."""

    def record(self, callback: CallbackState) -> CallRecord:
        """Its record."""


class FirstAttempts:
    """Makes the first attempts of one worker."""

    def __init__(
        self, *, callbacks: Callbacks, settlement: CallbackSettlement, recorder: Recorder, tasks: asyncio.TaskGroup
    ) -> None:
        self._callbacks = callbacks
        self._settlement = settlement
        self._recorder = recorder
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()

    async def make(self, running: Running, ending: Ending, url: str) -> CallRecord:
        """Tell the receiver of a call's end, and write down both; gives the record that stands then. HOT.

        When it returns the delivery may be acknowledged. Raises QueueRefused.
        """
        callbacks, slot = self._callbacks, running.slot
        try:
            to = callbacks.destination(url)
        except CallbackFailed as error:
            return await self._record(running, ending, await self._settlement.failed(ending.parked(url, 0), error))
        receivers = callbacks.receivers
        receiver = receivers.try_begin(to.receiver) or await receivers.begin_soon(to.receiver)
        slot.leave()
        if receiver is None:
            return await self._record(running, ending, await self._settlement.sent_away(ending.parked(url, 0), to))
        running.told_since = self._loop.time()
        running.park = partial(self._begin_to_park, running, ending, url)
        if slot.limited and not receivers.answers(receiver):
            running.park()
        failure: CallbackFailed | None = None
        try:
            await callbacks.attempt(ending.invocation, to, ending.outcome, receiver)
        except CallbackFailed as error:
            failure = error
        except asyncio.CancelledError:
            if running.parking is not None:
                running.parking.cancel()
            raise
        running.park = None
        if running.parking is not None and (pending := await running.parking) is not None:
            await self._after_parking(ending, url, pending, failure)
            return pending
        if failure is None:
            # Told, whatever stands there: nothing to remove.
            return await self._recorder.keep(running, ending.record(DELIVERED), ending.outcome.body)
        return await self._record(running, ending, await self._settlement.failed(ending.parked(url, 1), failure))

    async def _record(self, running: Running, ending: Ending, state: CallbackState) -> CallRecord:
        record = ending.record(state)
        stands = await self._recorder.keep(running, record, ending.outcome.body)
        if stands is not record and stands.status is CallStatus.CANCELLED:
            # Whoever cancelled the call was told that nobody is called back.
            await self._settlement.remove(record)
        return stands

    # ---- attempts that take long

    def _begin_to_park(self, running: Running, ending: Ending, url: str) -> None:
        running.park = None
        running.parking = self._tasks.create_task(self._park(running, ending, url), name="park a callback")

    async def _park(self, running: Running, ending: Ending, url: str) -> CallRecord | None:
        """Have the callback kept by others than the delivery; None when that cannot be, and the delivery keeps it."""
        parked, limit_s = ending.parked(url, 1), self._callbacks.limit_s(ending.outcome)
        try:
            stands = await self._record(running, ending, await self._settlement.under_way(parked, limit_s))
        except Exception as error:  # noqa: BLE001 - the delivery still keeps it, and no other call loses its worker
            set_aside(Work.CALLBACKS, error, call_id=ending.invocation.call_id)
            return None
        running.slot.settle(Settlement.DONE)
        return stands

    async def _after_parking(
        self, ending: Ending, url: str, pending: CallRecord, failure: CallbackFailed | None
    ) -> None:
        """The attempt ended after its callback was parked: what it came to counts, and not the copy that waits."""
        if failure is not None:
            state = await self._settlement.failed(ending.parked(url, 1), failure)
            await self._settlement.note(ending.invocation, state)
            if state.next_at_ns is not None:
                return
        else:
            await self._settlement.note(ending.invocation, DELIVERED)
        await self._settlement.remove_parked(pending)
