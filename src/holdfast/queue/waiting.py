"""Find and remove the messages of one call in the queues' streams: by subject, without an index.

What a call's record says is records.py's; this is for calls that have none yet, and for taking a call out of its queue.
"""

from __future__ import annotations

import asyncio
import json
from typing import NamedTuple

from holdfast.errors import QueueRefused, QueueUnavailable
from holdfast.invocation import CallId, Invocation
from holdfast.queue import dead_letter, parked_callback, wire
from holdfast.queue.api import TIMEOUT_S, ask, delete, last_by_leader, last_by_replica
from holdfast.queue.connection import Connection
from holdfast.queue.depth import Consumer, consumer_named, consumers, subject_of
from holdfast.queue.lanes import consumer_of, provider_of
from holdfast.queue.message import from_delivery, subjects_of_call
from holdfast.queue.record import CallRecord
from holdfast.queue.topology import STREAM_PREFIX
from holdfast.queue.wire import Msg

MOST_BATCH_BYTES = 16 * 1024 * 1024
# Of messages that are read together: above the largest message that NATS takes, so that each fits.


class Waiting(NamedTuple):
    """A call's message in a queue: of one that can run or is being run, or that waits for its time."""

    invocation: Invocation
    queue: str
    scheduled_at: str | None
    """RFC 3339; None for one that can run."""
    sequence: int
    line: Consumer | None
    """The consumer that hands it out; None for one that waits for its time, and where no worker has ever been."""

    @property
    def handed_out(self) -> bool:
        """Whether a worker may have it: it stands before what the consumer will hand out next."""
        return self.line is not None and self.sequence <= self.line.delivered_to

    @property
    def provider(self) -> str:
        """Whose workers alone are given it, in a queue that several providers share; empty: any worker."""
        return "" if self.line is None else provider_of(self.line.filter_subject.split(".")[2])

    @property
    def position(self) -> int:
        """Its place among those that can run, 1 for the next. Never too small.

        Told by sequences: what was removed or waits for its time between them is counted as well, up to all that wait.
        """
        if self.line is None:
            return 1
        return max(1, min(self.sequence - self.line.delivered_to, self.line.waiting))


class Removed(NamedTuple):
    """What was taken out for one call."""

    messages: int
    waiting: int
    """How many of them were calls that no worker was given: several when calls share an id."""
    handed_out: bool
    """Whether a worker may have one of them: a message that was handed out stands in its stream until the call ends."""


class Standing(NamedTuple):
    """A message as it stands in a stream."""

    subject: str
    sequence: int
    headers: bytes
    payload: bytes


async def standing_from(connection: Connection, queue: str, sequence: int, pattern: str, most: int) -> list[Standing]:
    """`messages_from` of a queue's stream."""
    return await messages_from(connection, f"{STREAM_PREFIX}{queue}", sequence, pattern, most)


async def messages_from(connection: Connection, stream: str, sequence: int, pattern: str, most: int) -> list[Standing]:
    """Up to `most` messages that match, from a sequence on; fewer when they are large. Empty: there are no more.

    Raises QueueUnavailable.
    """
    found: list[Standing] = []
    end: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def receive(message: Msg) -> None:
        status = wire.status(message.headers)
        if status:
            if not end.done():
                end.set_result(status)
            return
        subject = subject_of(message)
        at = int(wire.header(message.headers, b"Nats-Sequence") or b"0")
        found.append(Standing(subject, at, message.headers, message.payload))

    inbox = connection.new_inbox()
    sid = connection.subscribe(inbox, receive)
    wanted = {"seq": sequence, "next_by_subj": pattern, "batch": most, "max_bytes": MOST_BATCH_BYTES}
    try:
        connection.send(wire.pub(f"$JS.API.DIRECT.GET.{stream}".encode(), json.dumps(wanted).encode(), inbox))
        async with asyncio.timeout(TIMEOUT_S):
            status = await end
    except TimeoutError:
        raise QueueUnavailable(f"NATS did not give the messages of {stream} within {TIMEOUT_S:g} s") from None
    finally:
        connection.unsubscribe(sid)
    # 204 ends a batch that has something, 404 says that there is nothing; 413 that the rest would be too large.
    if status not in {204, 404, 413}:
        raise QueueUnavailable(f"the messages of {stream} cannot be read: status {status}")
    return found


def last_of_batch_has_more(found: list[Standing]) -> int:
    """How many messages match behind those that `messages_from` gave."""
    return int(wire.header(found[-1].headers, b"Nats-Num-Pending") or b"0") if found else 0


async def queues(connection: Connection) -> list[str]:
    """The names of the queues there are."""
    found: list[str] = []
    while True:
        page = await ask(connection, "STREAM.NAMES", offset=len(found))
        names = page.get("streams") or []
        found += names
        if not names or len(found) >= page.get("total", 0):
            return [name.removeprefix(STREAM_PREFIX) for name in found if name.startswith(STREAM_PREFIX)]


async def find(connection: Connection, call_id: CallId, *, surely: bool = False) -> Waiting | None:
    """The message of a call, in whichever queue it is; None when there is none. `surely` asks the streams' leaders."""
    last = last_by_leader if surely else last_by_replica
    for queue in await queues(connection):
        for pattern in subjects_of_call(queue, call_id):
            found = await last(connection, f"{STREAM_PREFIX}{queue}", pattern.decode())
            if found is None:
                continue
            subject = found.subject
            schedule = wire.header(found.headers, b"Nats-Schedule")
            return Waiting(
                from_delivery(subject, found.headers, found.payload),
                queue,
                None if schedule is None else schedule.decode("ascii").removeprefix("@at "),
                found.sequence,
                await consumer_named(connection, queue, consumer_of(subject)) if schedule is None else None,
            )
    return None


async def stands(connection: Connection, queue: str, call_id: CallId) -> bool:
    """Whether a call's message is in a queue, which costs less than to `find` it. Raises QueueError."""
    # In the order in which a call moves. From the line into a lane it moves within the second pattern, not unseen.
    for pattern in (f"{queue}.later.*.*.{call_id}.*", f"{queue}.*.*.*.{call_id}"):
        if await last_by_replica(connection, f"{STREAM_PREFIX}{queue}", pattern) is not None:
            return True
    return False


async def remove(connection: Connection, queue: str, call_id: CallId) -> Removed:
    """Take a call's messages out of its queue, and its callbacks out of theirs."""
    stream = f"{STREAM_PREFIX}{queue}"
    calls = [
        place
        for pattern in subjects_of_call(queue, call_id)
        for place in await _remove_all(connection, stream, pattern)
    ]
    callbacks = await _remove_parked(connection, call_id)
    # Asked once they are gone: what had not been handed out by then never will be.
    lines = await consumers(connection, queue) if calls else []
    handed_out = [at for subject, at in calls if any(line.takes(subject) and at <= line.delivered_to for line in lines)]
    return Removed(len(calls) + len(callbacks), len(calls) - len(handed_out), bool(handed_out))


async def remove_parked(connection: Connection, record: CallRecord) -> None:
    """Take the callback of one call out of where it waits for its next attempt."""
    await _remove_parked(connection, record.call_id, record.message_id)


async def remove_letter(connection: Connection, queue: str, invocation: Invocation) -> None:
    """Take the dead letter of a call away: it turned out to have ended otherwise."""
    await _remove_all(connection, dead_letter.STREAM, dead_letter.subject_of_dead(queue, invocation))


async def remove_callback(connection: Connection, record: CallRecord) -> None:
    """Take the callback of one call out of where it waits, and out of the dead letters should it just have died."""
    await remove_parked(connection, record)
    letter = dead_letter.subject_of_callback(record.queue, record.call_id, record.message_id)
    await _remove_all(connection, dead_letter.STREAM, letter)


async def callback_waits(connection: Connection, call_id: CallId, message_id: str) -> bool:
    """Whether a callback of one call waits for its next attempt, or is being tried."""
    for pattern in parked_callback.subjects_of_call(call_id, message_id):
        if await last_by_leader(connection, parked_callback.STREAM, pattern.decode()) is not None:
            return True
    return False


async def _remove_parked(connection: Connection, call_id: CallId, message_id: str = "*") -> list[tuple[str, int]]:
    return [
        place
        for pattern in parked_callback.subjects_of_call(call_id, message_id)
        for place in await _remove_all(connection, parked_callback.STREAM, pattern)
    ]


async def _remove_all(connection: Connection, stream: str, pattern: bytes) -> list[tuple[str, int]]:
    """Delete the messages that match, one by one; their subjects and sequences.

    A purge by subject would be one step. On a stream with consumers it moves their ack floors past messages that were
    handed out and not acknowledged (nats-server 2.15): once that server is killed, nobody is ever given those again.
    """
    removed: list[tuple[str, int]] = []
    while True:
        try:
            found = await ask(connection, f"STREAM.MSG.GET.{stream}", last_by_subj=pattern.decode())
        except QueueRefused as error:
            if error.code != 404:
                raise
            return removed  # nothing matches, or no callback was ever parked
        # When it is gone it was acknowledged, or its time came, in between.
        if await delete(connection, stream, found["message"]["seq"]):
            removed.append((found["message"]["subject"], found["message"]["seq"]))
