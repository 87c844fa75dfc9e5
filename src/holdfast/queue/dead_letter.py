"""Dead letters: what failed for good, kept until somebody has it done again or drops it. No I/O.

    holdfast.dead.<queue>.<namespace>.<function>.<call id>.<message id>             a call
    holdfast.dead.<queue>.<namespace>.<function>.<call id>.<message id>.callback    the callback of one

Whoever replays one writes a claim into it first, in place of the letter as it stood: of all that want it one gets it.

The headers are those of the call's or the parked callback's message, so that a replay needs nothing but this message.
The payload of a call is its request followed by the last answer, both as HTTP messages; that of a callback is the
answer that it was to bring.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, unquote

from nats.js.api import StorageType, StreamConfig

from holdfast.function import FunctionRef
from holdfast.invocation import CallId, Invocation
from holdfast.queue import parked_callback, wire
from holdfast.queue.answer import KeptAnswer, read_answer, stored_line, write_answer
from holdfast.queue.api import Found
from holdfast.queue.message import Publication, Undecodable, fields_of, from_delivery
from holdfast.queue.parked_callback import ParkedCallback, lines_of

STREAM = "HOLDFAST_dead"
SUBJECT_PREFIX = "holdfast.dead."
MOST_REASON_BYTES = 1000
_CALLBACK = b".callback"
_CLAIM = b"Holdfast-Claim:"


class Kind(enum.StrEnum):
    """What failed."""

    CALL = "call"
    CALLBACK = "callback"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One call that failed for good."""

    invocation: Invocation
    queue: str
    died_at_ns: int
    reason: str
    answer: KeptAnswer | None
    """What its last run gave; None when it never ran or never answered."""

    @property
    def kind(self) -> Kind:
        """That a call failed."""
        return Kind.CALL


@dataclass(frozen=True, slots=True)
class DeadCallback:
    """One callback that was given up; how its call ended is another matter."""

    parked: ParkedCallback
    died_at_ns: int
    reason: str

    @property
    def kind(self) -> Kind:
        """That a callback failed."""
        return Kind.CALLBACK

    @property
    def invocation(self) -> Invocation:
        """The call that it tells of, without its request."""
        return self.parked.invocation

    @property
    def queue(self) -> str:
        """The call's queue."""
        return self.parked.queue

    @property
    def answer(self) -> KeptAnswer:
        """What it was to bring."""
        return self.parked.answer


Letter = DeadLetter | DeadCallback


def stream_config(*, replicas: int) -> StreamConfig:
    """How the stream is made. It has no limit of its own: what stands here was promised and waits for somebody."""
    return StreamConfig(
        name=STREAM,
        description="Calls and callbacks that failed for good, to be replayed or dropped",
        subjects=[f"{SUBJECT_PREFIX}>"],
        storage=StorageType.FILE,
        max_msgs_per_subject=1,
        num_replicas=replicas,
        allow_direct=True,
    )


def subject_of_dead(queue: str, invocation: Invocation) -> bytes:
    """Where the dead letter of a call stands; that of its callback has one word more."""
    ref: FunctionRef = invocation.function
    words = (queue, ref.namespace, ref.name.replace(".", "_"), invocation.call_id, invocation.message_id)
    return (SUBJECT_PREFIX + ".".join(words)).encode()


def subject_of_callback(queue: str, call_id: CallId, message_id: str) -> bytes:
    """A pattern that finds the dead letter of a call's callback."""
    return f"{SUBJECT_PREFIX}{queue}.*.*.{call_id}.{message_id}".encode() + _CALLBACK


def to_publish(letter: Letter) -> Publication:
    """The message of a dead letter. Written twice, as after a crash, it is one: its subject holds one message."""
    invocation = letter.invocation
    subject = subject_of_dead(letter.queue, invocation)
    reason = quote(letter.reason[:MOST_REASON_BYTES], safe=" :/,;()'.")
    died = f"Holdfast-Died-At: {letter.died_at_ns}\r\nHoldfast-Reason: {reason}\r\n"
    message_id = f"{invocation.message_id}/{letter.died_at_ns}"
    match letter:
        case DeadLetter():
            answer = b"" if letter.answer is None else write_answer(letter.answer)
            headers = (
                f"NATS/1.0\r\nNats-Msg-Id: dead/{message_id}\r\n{fields_of(invocation)}"
                f"Holdfast-Queue: {letter.queue}\r\n{died}{stored_line(letter.answer)}"
                f"Holdfast-Request-Bytes: {len(invocation.request)}\r\n\r\n"
            )
            return Publication(subject, headers.encode("ascii"), invocation.request + answer)
        case DeadCallback():
            headers = f"NATS/1.0\r\nNats-Msg-Id: dead/callback/{message_id}\r\n{lines_of(letter.parked)}{died}\r\n"
            return Publication(subject + _CALLBACK, headers.encode("ascii"), write_answer(letter.answer))


class Claim(NamedTuple):
    """That somebody has begun to replay a letter."""

    token: str
    """Whose it is: of one try alone."""
    at_ns: int
    """When, in Unix nanoseconds."""
    queue: str
    """Where the call goes."""


def to_claim(found: Found, claim: Claim) -> Publication:
    """The letter that was found, with a claim; refused as a conflict when it stands there no longer."""
    kept = [
        line
        for line in found.headers.split(b"\r\n")[1:]
        if line and not line.startswith((b"Nats-", _CLAIM))  # what NATS added, or was of another message
    ]
    ours = (
        f"NATS/1.0\r\nNats-Msg-Id: claim/{claim.token}/{claim.at_ns}\r\n"
        f"Nats-Expected-Last-Subject-Sequence: {found.sequence}\r\n"
        f"Holdfast-Claim: {claim.token} {claim.at_ns} {claim.queue}\r\n"
    )
    return Publication(found.subject, ours.encode("ascii") + b"\r\n".join([*kept, b"", b""]), found.payload)


def claim_of(headers: bytes) -> Claim | None:
    """Who has begun to replay a letter; None: nobody."""
    words = (wire.header(headers, b"Holdfast-Claim") or b"").decode("ascii", "replace").split()
    if len(words) != 3 or not words[1].isdigit():
        return None
    return Claim(words[0], int(words[1]), words[2])


def from_message(subject: bytes, headers: bytes, payload: bytes) -> Letter:
    """Read a dead letter. Raises Undecodable or UnreadableAnswer."""
    try:
        died_at_ns = int(wire.header(headers, b"Holdfast-Died-At") or b"")
        reason = unquote((wire.header(headers, b"Holdfast-Reason") or b"").decode("ascii"))
        if subject.endswith(_CALLBACK):
            return DeadCallback(parked_callback.from_message(subject, headers, payload), died_at_ns, reason)
        size = int(wire.header(headers, b"Holdfast-Request-Bytes") or b"")
        queue = (wire.header(headers, b"Holdfast-Queue") or b"").decode("ascii")
    except ValueError as error:
        raise Undecodable(subject, f"its headers cannot be read: {error}") from error
    invocation = from_delivery(subject, headers, payload[:size])
    answer = payload[size:]
    return DeadLetter(invocation, queue, died_at_ns, reason, read_answer(answer, headers) if answer else None)
