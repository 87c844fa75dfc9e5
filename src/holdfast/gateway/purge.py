"""Purge a queue: each call that waits in it ends as cancelled, with a record that says so. Nothing vanishes.

For each call the record is written first and the message removed after it. A gateway that dies in between leaves a call
whose record says cancelled and which is still in its queue: a purge that is sent again, as it was not answered, removes
it. A call that a worker takes between the two steps is stopped there.

Calls that workers have taken before are not in question, nor those that are accepted while the purge goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterable
from typing import NamedTuple, TypeVar

import structlog

from holdfast import telemetry
from holdfast.function import FunctionRef
from holdfast.gateway.cancelling import stop_running
from holdfast.invocation import CallId, Invocation
from holdfast.owed import OWED
from holdfast.queue import waiting
from holdfast.queue.api import ask, delete
from holdfast.queue.bodies import Bodies
from holdfast.queue.connection import Connection
from holdfast.queue.depth import Consumer, consumers, pattern_of
from holdfast.queue.message import Undecodable, from_delivery
from holdfast.queue.owed_ends import end_owed
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.queue.records import AgedOut, Conflict, Records
from holdfast.queue.topology import STREAM_PREFIX
from holdfast.queue.waiting import Standing, standing_from

BATCH = 256
# Calls that are purged together, and at most what a gateway that dies leaves half done.
REASON = "purged from its queue before it was run"

T = TypeVar("T")

log = structlog.get_logger()


class Purged(NamedTuple):
    """What a purge has done."""

    purged: int
    complete: bool
    """Whether nothing is left of what waited when it began; False when its time was over before."""


async def purge(
    connection: Connection,
    records: Records,
    bodies: Bodies,
    *,
    queue: str,
    function: FunctionRef | None,
    limit_s: float,
) -> Purged:
    """Cancel what waits in a queue, all of it or one function's, for at most `limit_s` and one batch.

    Raises QueueRefused (404) when there is no such queue, QueueUnavailable.
    """
    ends = time.monotonic() + limit_s
    stream = await ask(connection, f"STREAM.INFO.{STREAM_PREFIX}{queue}")
    last: int = stream["state"]["last_seq"]
    work = _Purge(connection, records, bodies, queue)
    purged = 0
    for pattern, handed_out in _lines(queue, function, await consumers(connection, queue)):
        after = handed_out
        while after < last and (found := await standing_from(connection, queue, after + 1, pattern, BATCH)):
            after = found[-1].sequence
            purged += await work.batch([standing for standing in found if standing.sequence <= last])
            if time.monotonic() > ends:
                return Purged(purged, complete=False)
    return Purged(purged, complete=True)


def _lines(queue: str, function: FunctionRef | None, found: list[Consumer]) -> list[tuple[str, int]]:
    """What waits, as patterns and the sequences behind which: for its time, and not handed out by each consumer."""
    lines = [(f"{queue}.later.>" if function is None else pattern_of(queue, "later", function), 0)]
    for consumer in found:
        pattern = consumer.filter_subject if function is None else consumer.narrowed_to(function)
        if pattern is not None:
            lines.append((pattern, consumer.delivered_to))
    return lines


class _Call(NamedTuple):
    """A call and its message."""

    invocation: Invocation
    subject: str
    sequence: int


class _Purge:
    """The steps of a purge."""

    def __init__(self, connection: Connection, records: Records, bodies: Bodies, queue: str) -> None:
        self._connection = connection
        self._records = records
        self._bodies = bodies
        self._queue = queue

    async def batch(self, batch: list[Standing]) -> int:
        """Purge some calls; how many there were still to purge."""
        cancelled = await self._note_all([call for standing in batch if (call := _read(standing)) is not None])
        removed = await _all(self._remove(call.sequence) for call in cancelled)
        lines = await consumers(self._connection, self._queue)
        taken = [
            call
            for call, was_there in zip(cancelled, removed, strict=True)
            if not was_there or any(line.takes(call.subject) and call.sequence <= line.delivered_to for line in lines)
        ]
        await _all(self._stop(call.invocation.call_id) for call in taken)
        bodies = [call.invocation.body.name for call in cancelled if call.invocation.body is not None]
        await _all(self._bodies.discard(name) for name in bodies)
        return len(cancelled)

    async def _note_all(self, calls: list[_Call]) -> list[_Call]:
        """Write the records; gives the calls whose record now says that they were cancelled."""
        now_ns = time.time_ns()
        records = [
            CallRecord.of(call.invocation, self._queue, CallStatus.WAITING).cancelled(now_ns, REASON) for call in calls
        ]
        # Few calls have a record before they are run, and no two of one batch an id: all in one commit.
        different = len({record.call_id for record in records}) == len(records)
        if records and different and await self._put_first(records):
            return calls
        noted = await _all(_note_cancelled(self._records, record) for record in records)
        return [call for call, is_cancelled in zip(calls, noted, strict=True) if is_cancelled]

    async def _put_first(self, records: list[CallRecord]) -> bool:
        with contextlib.ExitStack() as stack:
            owed = [stack.enter_context(end_owed(record)) for record in records]
            written = await self._records.put_first(records)
            for record, owes in zip(records, owed, strict=True):
                if written:
                    telemetry.ENDS.count(record.function, record.status, owes)
                else:
                    OWED.strike(owes)
        return written

    async def _remove(self, sequence: int) -> bool:
        """Remove a message; False when it is not there any more.

        One by one: a purge up to a sequence takes the server time that grows with all that is in the stream, and moves
        consumers past what was handed out and not acknowledged.
        """
        return await delete(self._connection, f"{STREAM_PREFIX}{self._queue}", sequence)

    async def _stop(self, call_id: CallId) -> None:
        """A call that moved while it was purged: its time came, or a worker took it."""
        await waiting.remove(self._connection, self._queue, call_id)
        await stop_running(self._connection, call_id)


def _read(standing: Standing) -> _Call | None:
    """The call of a message; None for a message that is none."""
    try:
        invocation = from_delivery(standing.subject.encode(), standing.headers, standing.payload)
    except Undecodable as error:
        log.error("message cannot be read, left for a worker to remove", subject=standing.subject, error=str(error))  # noqa: TRY400
        return None
    return _Call(invocation, standing.subject, standing.sequence)


async def _all(steps: Iterable[Awaitable[T]]) -> list[T]:
    """What the steps give, side by side; the first error is raised once all have ended."""
    given = await asyncio.gather(*steps, return_exceptions=True)
    results: list[T] = []
    for one in given:
        if isinstance(one, BaseException):
            raise one
        results.append(one)
    return results


async def _note_cancelled(records: Records, record: CallRecord) -> bool:
    """Write the record of a purged call; False when it has ended otherwise or is being run."""
    replaces = 0
    while True:
        try:
            with end_owed(record) as owes:
                await records.put(record, b"", replaces)
                telemetry.ENDS.count(record.function, record.status, owes)
        except Conflict:
            stored = await records.read(record.call_id)
            replaces = 0 if stored is None else stored.sequence
            if stored is None or isinstance(stored, AgedOut) or stored.record.message_id != record.message_id:
                continue
            if stored.record.status is CallStatus.CANCELLED:
                if stored.record.finished_at_ns == record.finished_at_ns:
                    # Written together with others, and the confirmation was lost.
                    telemetry.ENDS[record.function, record.status].inc()
                return True  # or a purge before this one did not come to its end
            if stored.record.status.is_end or stored.record.status is CallStatus.RUNNING:
                return False
        else:
            return True
