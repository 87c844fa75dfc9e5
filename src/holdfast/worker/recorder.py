"""Write the records of the calls that end here, or pause, in place of what stands there and may be replaced.

What may be replaced is queue/succession.py's. Each end that is written is counted, once.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from holdfast import telemetry
from holdfast.errors import QueueUnavailable
from holdfast.owed import NO_SLOT
from holdfast.queue.record import CallRecord, CallStatus, UnreadableRecord
from holdfast.queue.records import Conflict, Records, Stored
from holdfast.queue.succession import is_same_end, may_follow
from holdfast.worker.insist import insist
from holdfast.worker.running import Running

LEADER_BUSY_S = 0.05
# The leader refuses a write while another one under the same subject is on its way to its replicas, and does not yet
# show that one: what stands there is read again after this.

log = structlog.get_logger()


class Recorder:
    """Writes the records of one worker's calls."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def keep(self, running: Running, record: CallRecord, body: bytes) -> CallRecord:
        """Write a record with the body of its result; gives the record that stands then: this one, or a later one. HOT.

        What was found out is kept here while NATS is away. Raises QueueRefused.
        """
        if running.interim is not None:
            await running.interim
        try:
            running.sequence = await self._records.put(record, body, running.sequence)
        except (Conflict, QueueUnavailable):
            return await self._keep_instead(running, record, body)
        _count(running, record)
        return record

    async def _keep_instead(self, running: Running, record: CallRecord, body: bytes) -> CallRecord:
        """Write the record though another stands there, or NATS is away."""
        stands: CallRecord | None = None
        while True:
            try:
                running.sequence = await insist(partial(self._records.put, record, body, running.sequence))
            except Conflict:
                before = running.sequence
                stands = await self._what_stands(running, record)
                if stands is not None and not may_follow(stands, record):
                    _count_kept_out(running, stands, record)
                    return stands
                if running.sequence == before:
                    await asyncio.sleep(LEADER_BUSY_S)
            else:
                if stands is None or not is_same_end(stands, record):
                    _count(running, record)
                else:
                    running.settle_owed()
                return record

    async def _what_stands(self, running: Running, record: CallRecord) -> CallRecord | None:
        """The record that stands there, and in `running` its sequence, which a write must name."""
        try:
            stored = await insist(partial(self._records.read, record.call_id, surely=True))
        except UnreadableRecord as error:
            log.error("damaged record replaced", call_id=record.call_id, error=str(error))  # noqa: TRY400 - not ours
            running.sequence = error.sequence
            return None
        running.sequence = 0 if stored is None else stored.sequence
        return stored.record if isinstance(stored, Stored) else None


def _count(running: Running, record: CallRecord) -> None:
    """Count a record that was written, when it is that of an end. HOT."""
    if record.status.is_end:
        owes, running.owes = running.owes, NO_SLOT
        telemetry.ENDS.count(record.function, record.status, owes)


def _count_kept_out(running: Running, stands: CallRecord, record: CallRecord) -> None:
    """Count an end that was not written: another worker ended the call before, or it has ended under a later one's id.

    Whoever cancelled a call was told so: then the run that ended meanwhile is none that counts.
    """
    if not record.status.is_end:
        return
    if stands.message_id != record.message_id:
        _count(running, record)
        return
    running.settle_owed()
    if stands.status is not CallStatus.CANCELLED:
        telemetry.RUN_TWICE.inc()
