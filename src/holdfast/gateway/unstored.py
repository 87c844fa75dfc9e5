"""Calls whose record was written before they were put into a queue: what it says first, and whether they ever were.

A gateway that ends between the two steps leaves a record `waiting` and no call. Nobody was told that it is accepted,
and nobody must be told so for ever: when no queue holds the call some time after the record was written, there is none.
"""

from __future__ import annotations

import time
from datetime import datetime

from holdfast.invocation import Invocation
from holdfast.queue import waiting
from holdfast.queue.connection import Connection
from holdfast.queue.message import was_replayed
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.queue.records import Records, Stored

NOT_BEGUN = frozenset({CallStatus.WAITING, CallStatus.SCHEDULED})
MARGIN_S = 10.0
# What a gateway may need between record and call besides its publish_timeout; clocks may differ by some of it.


def first_record(invocation: Invocation, queue: str, at: datetime | None) -> CallRecord:
    """The record of a call that is about to be put into a queue, to be run from `at` on."""
    if at is None:
        return CallRecord.of(invocation, queue, CallStatus.WAITING)
    scheduled = CallRecord.of(invocation, queue, CallStatus.SCHEDULED)
    return scheduled._replace(next_attempt_at_ns=int(at.timestamp() * 1e9))


class Unstored:
    """Tells records whose calls were never stored."""

    def __init__(self, connection: Connection, records: Records, publish_timeout_s: float) -> None:
        self._connection = connection
        self._records = records
        self._after_s = publish_timeout_s + MARGIN_S

    async def was_never(self, stored: Stored) -> bool:
        """Whether a record's call was never put into a queue, and will not be any more. Raises QueueError."""
        record = stored.record
        # A replayed call has ended before, and its dead letter is there until it stands in its queue.
        if record.status not in NOT_BEGUN or was_replayed(record.message_id) or not self._is_old(stored):
            return False
        if await waiting.find(self._connection, record.call_id, surely=True) is not None:
            return False
        # It may have been run meanwhile.
        again = await self._records.read(record.call_id, surely=True)
        return isinstance(again, Stored) and again.sequence == stored.sequence

    def _is_old(self, stored: Stored) -> bool:
        try:
            stored_at_s = datetime.fromisoformat(stored.stored_at).timestamp()
        except ValueError:
            return False
        return time.time() - stored_at_s > self._after_s
