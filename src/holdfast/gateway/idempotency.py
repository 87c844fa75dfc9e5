"""Store a call once, however often it is sent: `Idempotency-Key`.

The key gives the call's id, the request its message id. A record is written first, `waiting` or `scheduled`, in place
of none: of any number that come at once, at any number of gateways, one writes it. The others find it and know the
first call again, or find another request under the key and say so. Publishing the call itself twice is harmless, its
message id is the same, so whoever finds a record whose call is not in its queue publishes it: the first may have died
in between.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from holdfast import telemetry
from holdfast.errors import BadRequest
from holdfast.invocation import Invocation
from holdfast.queue import waiting
from holdfast.queue.connection import Connection
from holdfast.queue.message import original_of, to_publish, to_publish_later
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.queue.records import AgedOut, Conflict, Records

_NOT_BEGUN = frozenset({CallStatus.WAITING, CallStatus.SCHEDULED})


class Once(NamedTuple):
    """What came of storing a call that carries a key."""

    accepted_at_ns: int
    """When it was accepted first, in Unix nanoseconds."""
    known: bool
    """Whether it had been accepted before."""


class Idempotency:
    """Stores calls that carry a key."""

    def __init__(self, connection: Connection, publisher: Publisher, records: Records) -> None:
        self._connection = connection
        self._publisher = publisher
        self._records = records

    async def store(self, invocation: Invocation, queue: str, at: datetime | None) -> Once:
        """Store the call in a queue, to be run from `at` on, unless it is stored already.

        Raises BadRequest (422) when the key stands for another request, QueueError when it cannot be stored.
        """
        record = _record(invocation, queue, at)
        replaces = 0
        while True:
            try:
                await self._records.put(record, b"", replaces)
            except Conflict:
                stored = await self._records.read(invocation.call_id)
                if stored is None or isinstance(stored, AgedOut):
                    replaces = 0 if stored is None else stored.sequence
                    continue
                if original_of(stored.record.message_id) != invocation.message_id:
                    raise BadRequest(
                        422, "Idempotency-Key was used for another request: a key stands for one body and target."
                    ) from None
                found = stored.record
                if found.status not in _NOT_BEGUN or await waiting.find(self._connection, found.call_id):
                    return _known(found.accepted_at_ns)
                invocation = invocation._replace(accepted_at_ns=found.accepted_at_ns)
                # Where its record says that it is, whatever the function's annotation says by now.
                queue = found.queue
            publication = to_publish(queue, invocation) if at is None else to_publish_later(queue, invocation, at)
            if not await self._publisher.confirm_once(*publication):
                # Of those that came at once another one was faster; or it was run meanwhile, and has no record yet.
                return _known(invocation.accepted_at_ns)
            return Once(invocation.accepted_at_ns, known=False)


def _known(accepted_at_ns: int) -> Once:
    telemetry.DUPLICATES_AVOIDED.labels("idempotency_key").inc()
    return Once(accepted_at_ns, known=True)


def _record(invocation: Invocation, queue: str, at: datetime | None) -> CallRecord:
    if at is None:
        return CallRecord.of(invocation, queue, CallStatus.WAITING)
    scheduled = CallRecord.of(invocation, queue, CallStatus.SCHEDULED)
    return scheduled._replace(next_attempt_at_ns=int(at.timestamp() * 1e9))
