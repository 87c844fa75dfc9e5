"""The stream of dead letters: listing, reading, replaying and dropping them.

What a dead letter is and how it is written is dead_letter.py's.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import NamedTuple, assert_never

from holdfast import telemetry
from holdfast.errors import QueueUnavailable
from holdfast.function import FunctionRef
from holdfast.invocation import CallId
from holdfast.queue import wire
from holdfast.queue.api import TIMEOUT_S, delete
from holdfast.queue.connection import Connection
from holdfast.queue.dead_letter import STREAM, SUBJECT_PREFIX, DeadCallback, DeadLetter, Kind, Letter, from_message
from holdfast.queue.message import replayed, to_publish
from holdfast.queue.parked_callback import to_publish_now
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallbackStatus, CallRecord, CallStatus
from holdfast.queue.records import AgedOut, Conflict, Records, Stored


class Kept(NamedTuple):
    """A dead letter and its sequence in the stream."""

    letter: Letter
    sequence: int


class DeadLetters:
    """All dead letters, over one connection."""

    def __init__(self, connection: Connection, publisher: Publisher, records: Records) -> None:
        self._connection = connection
        self._publisher = publisher
        self._records = records

    async def each(
        self,
        *,
        queue: str = "*",
        function: FunctionRef | None = None,
        call_id: str = "*",
        kind: Kind | None = None,
        after: int = 0,
    ) -> AsyncIterator[Kept]:
        """The dead letters that match, oldest first, from the sequence behind `after` on. Raises QueueError."""
        name, namespace = ("*", "*") if function is None else (function.name.replace(".", "_"), function.namespace)
        last = {None: ">", Kind.CALL: "*", Kind.CALLBACK: "*.callback"}[kind]
        pattern = f"{SUBJECT_PREFIX}{queue}.{namespace}.{name}.{call_id}.{last}"
        while True:
            message = await self._connection.request(
                f"$JS.API.DIRECT.GET.{STREAM}".encode(),
                json.dumps({"seq": after + 1, "next_by_subj": pattern}).encode(),
                TIMEOUT_S,
            )
            status = wire.status(message.headers)
            if status == 404:
                return
            if status:
                raise QueueUnavailable(f"dead letters cannot be read: {wire.status_text(message.headers)}")
            after = int(wire.header(message.headers, b"Nats-Sequence") or b"0")
            subject = wire.header(message.headers, b"Nats-Subject") or b""
            yield Kept(from_message(subject, message.headers, message.payload), after)

    async def replay(self, kept: Kept, queue: str) -> None:
        """Have it done again, and drop the dead letter. `queue` is where a call goes.

        A call is put into its queue as one that was never run, and keeps its id. A callback is sent again, the same in
        all but its time, and its function is not run. A crash between the two steps leaves both: the letter may then be
        replayed again.
        """
        match kept.letter:
            case DeadLetter() as letter:
                await self._replay_call(letter, queue)
            case DeadCallback() as letter:
                await self._replay_callback(letter)
            case _:
                assert_never(kept.letter)
        await self.drop(kept)

    async def _replay_call(self, letter: DeadLetter, queue: str) -> None:
        again = replayed(letter.invocation, letter.died_at_ns)
        await self._note(CallRecord.of(again, queue, CallStatus.WAITING))
        await self._publisher.confirm(*to_publish(queue, again))
        # It has ended once and will again: accepted twice, for the sum to be right.
        telemetry.ACCEPTED.labels(str(again.function)).inc()

    async def _replay_callback(self, letter: DeadCallback) -> None:
        # A first attempt of its own: JetStream would take what is parked after it for the messages of the time before.
        again = replace(letter.parked, attempts=0, first_at_ns=time.time_ns())
        invocation = again.invocation
        await self._records.amend(
            invocation.call_id,
            invocation.message_id,
            lambda record: record._replace(
                callback=CallbackStatus.PENDING, callback_attempts=0, callback_error=letter.reason
            ),
        )
        message_id = f"callback/{invocation.message_id}/again/{letter.died_at_ns}"
        await self._publisher.confirm(*to_publish_now(again, message_id))

    async def drop(self, kept: Kept) -> None:
        """Remove a dead letter for good."""
        # When it is gone somebody else was faster; or a callback failed again at once, into a letter in its place.
        await delete(self._connection, STREAM, kept.sequence)

    async def _note(self, record: CallRecord) -> None:
        """The call waits again: its old record would say that it failed."""
        while True:
            stored: Stored | AgedOut | None = await self._records.read(CallId(record.call_id))
            try:
                await self._records.put(record, b"", 0 if stored is None else stored.sequence)
            except Conflict:
                continue
            return
