"""Purge a queue: each call that waits in it ends as cancelled, with a record that says so. Nothing vanishes.

For each call the record is written first and the message removed after it. A gateway that dies in between leaves a call
whose record says cancelled and which is still in its queue: a purge that is sent again, as it was not answered, removes
it. A call that a worker takes between the two steps is stopped there.

Calls that workers have taken before are not in question, nor those that are accepted while the purge goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import NamedTuple, TypeVar

import structlog

from holdfast import telemetry
from holdfast.errors import QueueRefused
from holdfast.function import FunctionRef
from holdfast.gateway.cancelling import stop_running
from holdfast.queue import waiting
from holdfast.queue.api import ask
from holdfast.queue.connection import Connection
from holdfast.queue.depth import consumers, pattern_of
from holdfast.queue.message import Undecodable, from_delivery
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
    connection: Connection, records: Records, queue: str, function: FunctionRef | None, *, limit_s: float
) -> Purged:
    """Cancel what waits in a queue, all of it or one function's, for at most `limit_s` and one batch.

    Raises QueueRefused (404) when there is no such queue, QueueUnavailable.
    """
    ends = time.monotonic() + limit_s
    purged = 0
    async for batch in _batches(connection, queue, function):
        purged += await _purge_batch(connection, records, queue, batch)
        if time.monotonic() > ends:
            return Purged(purged, complete=False)
    return Purged(purged, complete=True)


async def _batches(connection: Connection, queue: str, function: FunctionRef | None) -> AsyncIterator[list[Standing]]:
    """What waits now: behind what each consumer has handed out, and all that waits for its time."""
    stream = await ask(connection, f"STREAM.INFO.{STREAM_PREFIX}{queue}")
    last: int = stream["state"]["last_seq"]
    wanted: list[tuple[str, int]] = [
        (f"{queue}.later.>" if function is None else pattern_of(queue, "later", function), 0)
    ]
    for consumer in await consumers(connection, queue):
        pattern = consumer.filter_subject if function is None else consumer.narrowed_to(function)
        if pattern is not None:
            wanted.append((pattern, consumer.delivered_to))
    for pattern, handed_out in wanted:
        after = handed_out
        while after < last and (batch := await standing_from(connection, queue, after + 1, pattern, BATCH)):
            after = batch[-1].sequence
            yield [standing for standing in batch if standing.sequence <= last]


async def _purge_batch(connection: Connection, records: Records, queue: str, batch: list[Standing]) -> int:
    """Purge some calls; how many there were still to purge."""
    cancelled = await _all(_note_cancelled(records, queue, standing) for standing in batch)
    to_remove = [standing for standing, is_cancelled in zip(batch, cancelled, strict=True) if is_cancelled]
    removed = await _all(_remove(connection, queue, standing.sequence) for standing in to_remove)
    handed_out = await consumers(connection, queue)
    taken = [
        standing
        for standing, was_there in zip(to_remove, removed, strict=True)
        if not was_there
        or any(
            consumer.takes(standing.subject) and standing.sequence <= consumer.delivered_to for consumer in handed_out
        )
    ]
    await _all(_stop(connection, queue, standing) for standing in taken)
    return len(to_remove)


async def _all(steps: Iterable[Awaitable[T]]) -> list[T]:
    """What the steps give, side by side; the first error is raised once all have ended."""
    given = await asyncio.gather(*steps, return_exceptions=True)
    results: list[T] = []
    for one in given:
        if isinstance(one, BaseException):
            raise one
        results.append(one)
    return results


async def _note_cancelled(records: Records, queue: str, standing: Standing) -> bool:
    """Write the record of a purged call; False when it has ended otherwise or is being run."""
    try:
        invocation = from_delivery(standing.subject.encode(), standing.headers, standing.payload)
    except Undecodable as error:
        log.error("message cannot be read, left for a worker to remove", subject=standing.subject, error=str(error))  # noqa: TRY400
        return False
    record = CallRecord.of(invocation, queue, CallStatus.WAITING).ended(CallStatus.CANCELLED, time.time_ns(), REASON)
    replaces = 0
    while True:
        try:
            await records.put(record, b"", replaces)
        except Conflict:
            stored = await records.read(record.call_id)
            replaces = 0 if stored is None else stored.sequence
            if stored is None or isinstance(stored, AgedOut) or stored.record.message_id != record.message_id:
                continue
            if stored.record.status is CallStatus.CANCELLED:
                return True  # a purge before this one did not come to its end
            if stored.record.status.is_end or stored.record.status is CallStatus.RUNNING:
                return False
        else:
            telemetry.ENDS[record.function, record.status].inc()
            return True


async def _remove(connection: Connection, queue: str, sequence: int) -> bool:
    """Remove a message; False when it is not there any more."""
    try:
        await ask(connection, f"STREAM.MSG.DELETE.{STREAM_PREFIX}{queue}", seq=sequence, no_erase=True)
    except QueueRefused as error:
        if error.code not in {400, 404}:
            raise
        return False
    return True


async def _stop(connection: Connection, queue: str, standing: Standing) -> None:
    """A call that moved while it was purged: its time came, or a worker took it."""
    call_id = from_delivery(standing.subject.encode(), standing.headers, standing.payload).call_id
    await waiting.remove(connection, queue, call_id)
    await stop_running(connection, call_id)
