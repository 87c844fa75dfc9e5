"""Whether NATS holds what was sent to it, or did: asked by id, when no confirmation came.

Any replica may answer. One that lags behind says "not yet", so whoever concludes from an absence asks again later.
"""

from __future__ import annotations

from typing import NamedTuple

from holdfast.function import FunctionRef
from holdfast.invocation import CallId
from holdfast.queue.api import Found, last_by_replica
from holdfast.queue.connection import Connection
from holdfast.queue.message import Undecodable, from_delivery, replay_of, subjects_of_call
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.queue.records import Records, Stored
from holdfast.queue.topology import STREAM_PREFIX
from holdfast.queue.waiting import queues, standing_from

MOST_SHARING = 100
# Calls with one id in one queue that are looked at.
_WRITTEN_BEFORE = frozenset({CallStatus.WAITING, CallStatus.SCHEDULED})
# Records of calls with a key, and of replays, are written before the call is sent: they do not show that it came.


class Held(NamedTuple):
    """A call that was stored, as far as it tells here."""

    function: FunctionRef
    accepted_at_ns: int


async def call_held(connection: Connection, records: Records, call_id: CallId, message_id: str) -> Held | None:
    """The call that was stored with this message id; None: not yet, or never. Raises QueueError.

    In the order in which a call moves: its places in the queue, then its record. So none is missed that moves.
    """
    for queue in await queues(connection):
        for pattern in subjects_of_call(queue, call_id):
            # The last is nearly always the only one, and found by an index; only for calls that share an id the
            # server has to look through its stream.
            last = await last_by_replica(connection, f"{STREAM_PREFIX}{queue}", pattern.decode())
            if last is None:
                continue
            held = _held(last, message_id)
            if held is not None:
                return held
            for standing in await standing_from(connection, queue, 1, pattern.decode(), MOST_SHARING):
                held = _held(Found(standing.subject.encode(), *standing[1:]), message_id)
                if held is not None:
                    return held
    record = await _record(records, call_id)
    if record is None or record.message_id != message_id or record.status in _WRITTEN_BEFORE:
        return None
    return Held(record.function, record.accepted_at_ns)


def _held(found: Found, message_id: str) -> Held | None:
    try:
        call = from_delivery(found.subject, found.headers, found.payload)
    except Undecodable:
        return None
    return Held(call.function, call.accepted_at_ns) if call.message_id == message_id else None


async def end_held(records: Records, call_id: CallId, finished_at_ns: int) -> CallRecord | None:
    """The record of a call that ended at this instant; None: not yet, or another stands there. Raises QueueError."""
    record = await _record(records, call_id)
    if record is None:
        return None
    if replay_of(record.message_id) == finished_at_ns:
        # It failed, and was replayed since.
        return record._replace(status=CallStatus.FAILED)
    return record if record.status.is_end and record.finished_at_ns == finished_at_ns else None


async def _record(records: Records, call_id: CallId) -> CallRecord | None:
    stored = await records.read(call_id)
    return stored.record if isinstance(stored, Stored) else None
