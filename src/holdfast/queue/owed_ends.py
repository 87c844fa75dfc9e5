"""The count of an end is owed from before its record is sent until it is counted: for writers that are not hot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from holdfast import owed
from holdfast.owed import OWED
from holdfast.queue.record import CallRecord


@contextlib.contextmanager
def end_owed(record: CallRecord) -> Iterator[int]:
    """Owe the end that a record tells, while it is written; gives what `telemetry.ENDS.count` strikes off.

    What ends the context otherwise leaves it struck off, or to be asked for, by what is known of the record.
    """
    slot = OWED.note(owed.ended(record.call_id, record.finished_at_ns or 0))
    try:
        yield slot
    except BaseException as error:
        OWED.settle(slot, error)
        raise
