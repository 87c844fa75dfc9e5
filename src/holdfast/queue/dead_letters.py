"""The stream of dead letters: listing, reading, replaying and dropping them.

A letter is replayed once, whoever asks. The steps of a replay, and what a crash behind each leaves:

    claimed      the letter names who has it; until it is stale nobody else touches it, then whoever comes goes on
    recorded     a call waits again; the callback of one is pending again
    published    the call, or the callback
    deleted      the letter: whoever did that counts the call and says that it was replayed

A claim is written in place of the letter as it stood, and a letter is dropped by the sequence that it had: of any
number of replays and drops at once NATS lets one through. Who goes on where another broke off first asks NATS whether
that one had published. What a dead letter is and how it is written is dead_letter.py's.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import NamedTuple, assert_never

import structlog

from holdfast import owed, telemetry
from holdfast.errors import QueueRefused, QueueUnavailable
from holdfast.function import FunctionRef
from holdfast.invocation import CallId
from holdfast.owed import NO_SLOT, OWED
from holdfast.queue import wire
from holdfast.queue.answer import UnreadableAnswer
from holdfast.queue.api import TIMEOUT_S, delete, last_by_leader
from holdfast.queue.connection import Connection
from holdfast.queue.dead_letter import (
    STREAM,
    SUBJECT_PREFIX,
    Claim,
    DeadCallback,
    DeadLetter,
    Kind,
    Letter,
    claim_of,
    from_message,
    to_claim,
)
from holdfast.queue.evidence import call_held
from holdfast.queue.message import Undecodable, replayed, to_publish
from holdfast.queue.parked_callback import to_publish_now
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallbackStatus, CallRecord, CallStatus
from holdfast.queue.records import WRONG_SEQUENCE, AgedOut, Conflict, Records, Stored
from holdfast.queue.waiting import callback_waits
from holdfast.queue.wire import Msg

CLAIM_S = 60.0
# After this long a claim is stale. A step that is not confirmed is given up after five seconds.

log = structlog.get_logger("holdfast.queue")


class Kept(NamedTuple):
    """A dead letter as it stands in the stream."""

    letter: Letter
    sequence: int
    claim: Claim | None
    """Who has begun to replay it."""
    subject: bytes

    @property
    def in_hand(self) -> bool:
        """Whether somebody is replaying it now."""
        return self.claim is not None and time.time_ns() - self.claim.at_ns < CLAIM_S * 1e9


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
        """The dead letters that match, oldest first, from the sequence behind `after` on. Raises QueueError.

        One that cannot be read is named in the log and left where it is: it must not hide the others.
        """
        async for message in self._messages(queue=queue, function=function, call_id=call_id, kind=kind, after=after):
            sequence = int(wire.header(message.headers, b"Nats-Sequence") or b"0")
            subject = wire.header(message.headers, b"Nats-Subject") or b""
            try:
                letter = from_message(subject, message.headers, message.payload)
            except (Undecodable, UnreadableAnswer) as error:
                log.error("dead letter cannot be read", stream=STREAM, sequence=sequence, error=str(error))  # noqa: TRY400 - nothing of ours failed
                continue
            yield Kept(letter, sequence, claim_of(message.headers), subject)

    async def has(self, call_id: CallId, kind: Kind | None) -> bool:
        """Whether there is a dead letter of a call, be it one that cannot be read. Raises QueueError."""
        async for _ in self._messages(queue="*", function=None, call_id=call_id, kind=kind, after=0):
            return True
        return False

    async def _messages(
        self, *, queue: str, function: FunctionRef | None, call_id: str, kind: Kind | None, after: int
    ) -> AsyncIterator[Msg]:
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
            yield message

    async def replay(self, kept: Kept, queue: str) -> bool:
        """Have it done again; False: somebody else has it, or had. `queue` is where a call goes. Raises QueueError.

        A call is put into its queue as one that was never run, and keeps its id. A callback is sent again, the same in
        all but its time, and its function is not run.
        """
        return not kept.in_hand and await self._replay(kept, queue)

    async def drop(self, kept: Kept) -> bool:
        """Remove a dead letter for good; False: somebody else has it, or had. Raises QueueError."""
        if kept.in_hand:
            return False
        if kept.claim is not None and await self._is_published(kept.letter):
            # Its replay broke off behind the step that counts: it is run, so it was not dropped.
            await self._replay(kept, kept.claim.queue)
            return False
        return await delete(self._connection, STREAM, kept.sequence)

    async def resume(self, call_id: CallId, message_id: str, token: str) -> bool:
        """Go on with a replay that broke off; False: no letter has that claim, or not yet. Raises QueueError."""
        async for kept in self.each(call_id=call_id):
            if kept.claim is not None and kept.claim.token == token and again_id(kept.letter) == message_id:
                return await self._replay(kept, kept.claim.queue)
        return False

    async def count_replayed(self, call_id: CallId, message_id: str, token: str) -> bool:
        """Make up for the count of a replay that broke off at its last step; False: not replayed yet, it seems.

        A letter that is still there was not deleted, and counts with that.
        """
        async for kept in self.each(call_id=call_id, kind=Kind.CALL):
            if again_id(kept.letter) == message_id:
                return await self.resume(call_id, message_id, token)
        held = await call_held(self._connection, self._records, call_id, message_id)
        if held is None:
            return False
        telemetry.ACCEPTED.labels(str(held.function)).inc()
        return True

    async def _replay(self, kept: Kept, queue: str) -> bool:
        letter = kept.letter
        call_id, message_id = letter.invocation.call_id, again_id(letter)
        claim = Claim(secrets.token_hex(16), time.time_ns(), queue)
        owes = OWED.note(owed.replay(call_id, message_id, claim.token))
        try:
            sequence = await self._claim(kept.subject, kept.sequence, claim)
            if sequence is None:
                OWED.strike(owes)
                return False
            if kept.claim is None or not await self._is_published(letter):
                try:
                    await self._publish(letter, queue)
                except QueueRefused as error:
                    if not error.perhaps_stored:
                        # It would be refused again, so nobody goes on by himself: the letter waits for who asks next.
                        await self._claim(kept.subject, sequence, claim._replace(at_ns=0))
                        OWED.strike(owes)
                        owes = NO_SLOT
                    raise
            if letter.kind is Kind.CALL:
                begun, owes = owes, OWED.note(owed.replayed(call_id, message_id, claim.token))
                OWED.strike(begun)
            removed = await delete(self._connection, STREAM, sequence)
            if removed and letter.kind is Kind.CALL:
                # It has ended once and will again: accepted twice, for the sum to be right.
                telemetry.ACCEPTED.labels(str(letter.invocation.function)).inc()
            OWED.strike(owes)
        except BaseException:
            OWED.doubt(owes)
            raise
        return removed

    async def _claim(self, subject: bytes, sequence: int, claim: Claim) -> int | None:
        """Write a claim into the letter that stands there; its new sequence, None when somebody was faster."""
        found = await last_by_leader(self._connection, STREAM, subject.decode())
        if found is None or found.sequence != sequence:
            return None
        try:
            return await self._publisher.confirm(*to_claim(found, claim))
        except QueueRefused as error:
            if error.err_code not in WRONG_SEQUENCE:
                raise
        # It may be ours that stands there: published, its confirmation lost with the connection, published again.
        found = await last_by_leader(self._connection, STREAM, subject.decode())
        return found.sequence if found is not None and claim_of(found.headers) == claim else None

    async def _is_published(self, letter: Letter) -> bool:
        """Whether the replay of a letter got as far as to be run, or told."""
        invocation = letter.invocation
        if isinstance(letter, DeadLetter):
            held = await call_held(self._connection, self._records, invocation.call_id, again_id(letter))
            return held is not None
        stored = await self._records.read(invocation.call_id, surely=True)
        if isinstance(stored, Stored) and stored.record.message_id == invocation.message_id:
            # Before it is published the record still says that it failed, or that it is pending and was never tried.
            callback, attempts = stored.record.callback, stored.record.callback_attempts
            if callback is not CallbackStatus.FAILED and (callback is not CallbackStatus.PENDING or attempts):
                return True
        return await callback_waits(self._connection, invocation.call_id, invocation.message_id)

    async def _publish(self, letter: Letter, queue: str) -> None:
        match letter:
            case DeadLetter():
                again = replayed(letter.invocation, letter.died_at_ns)
                await self._note(CallRecord.of(again, queue, CallStatus.WAITING))
                await self._publisher.confirm(*to_publish(queue, again))
            case DeadCallback():
                await self._publish_callback(letter)
            case _:
                assert_never(letter)

    async def _publish_callback(self, letter: DeadCallback) -> None:
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
        await self._publisher.confirm(*to_publish_now(again, again_id(letter)))

    async def _note(self, record: CallRecord) -> None:
        """The call waits again: its old record would say that it failed."""
        while True:
            stored: Stored | AgedOut | None = await self._records.read(CallId(record.call_id))
            try:
                await self._records.put(record, b"", 0 if stored is None else stored.sequence)
            except Conflict:
                continue
            return


def again_id(letter: Letter) -> str:
    """The message id of what a replay publishes: the same for the same death, so that NATS stores it once."""
    match letter:
        case DeadLetter():
            return replayed(letter.invocation, letter.died_at_ns).message_id
        case DeadCallback():
            return f"callback/{letter.invocation.message_id}/again/{letter.died_at_ns}"
        case _:
            assert_never(letter)
