"""Dead letters: calls that failed for good, with request, reason and last answer, to be run again. No I/O.

    holdfast.dead.<queue>.<namespace>.<function>.<call id>.<message id>

The headers are those of the call's message, so that a replay needs nothing but this message. The payload is the request
followed by the last answer, both as HTTP messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from nats.js.api import StorageType, StreamConfig

from holdfast.function import FunctionRef
from holdfast.invocation import Invocation
from holdfast.queue import wire
from holdfast.queue.answer import KeptAnswer, read_answer, write_answer
from holdfast.queue.message import Publication, Undecodable, fields_of, from_delivery

STREAM = "HOLDFAST_dead"
SUBJECT_PREFIX = "holdfast.dead."
MOST_REASON_BYTES = 1000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One call that failed for good."""

    invocation: Invocation
    queue: str
    died_at_ns: int
    reason: str
    answer: KeptAnswer | None
    """What its last run gave; None when it never ran or never answered."""


def stream_config(*, replicas: int) -> StreamConfig:
    """How the stream is made. It has no limit of its own: what stands here was promised and waits for somebody."""
    return StreamConfig(
        name=STREAM,
        description="Calls that failed for good, to be replayed or dropped",
        subjects=[f"{SUBJECT_PREFIX}>"],
        storage=StorageType.FILE,
        max_msgs_per_subject=1,
        num_replicas=replicas,
        allow_direct=True,
    )


def subject_of_dead(queue: str, invocation: Invocation) -> bytes:
    """Where the dead letter of a call stands."""
    ref: FunctionRef = invocation.function
    words = (queue, ref.namespace, ref.name.replace(".", "_"), invocation.call_id, invocation.message_id)
    return (SUBJECT_PREFIX + ".".join(words)).encode()


def to_publish(letter: DeadLetter) -> Publication:
    """The message of a dead letter. Written twice, as after a crash, it is one."""
    invocation = letter.invocation
    answer = b"" if letter.answer is None else write_answer(letter.answer)
    reason = quote(letter.reason[:MOST_REASON_BYTES], safe=" :/,;()'.")
    headers = (
        f"NATS/1.0\r\nNats-Msg-Id: dead/{invocation.message_id}/{letter.died_at_ns}\r\n{fields_of(invocation)}"
        f"Holdfast-Queue: {letter.queue}\r\nHoldfast-Died-At: {letter.died_at_ns}\r\nHoldfast-Reason: {reason}\r\n"
        f"Holdfast-Request-Bytes: {len(invocation.request)}\r\n\r\n"
    )
    return Publication(subject_of_dead(letter.queue, invocation), headers.encode("ascii"), invocation.request + answer)


def from_message(subject: bytes, headers: bytes, payload: bytes) -> DeadLetter:
    """Read a dead letter. Raises Undecodable or UnreadableAnswer."""
    try:
        size = int(wire.header(headers, b"Holdfast-Request-Bytes") or b"")
        died_at_ns = int(wire.header(headers, b"Holdfast-Died-At") or b"")
        queue = (wire.header(headers, b"Holdfast-Queue") or b"").decode("ascii")
        reason = unquote((wire.header(headers, b"Holdfast-Reason") or b"").decode("ascii"))
    except ValueError as error:
        raise Undecodable(subject, f"its headers cannot be read: {error}") from error
    invocation = from_delivery(subject, headers, payload[:size])
    answer = payload[size:]
    return DeadLetter(invocation, queue, died_at_ns, reason, read_answer(answer) if answer else None)
