"""Callbacks that failed at first and wait for their next attempt, apart from the calls they tell of. No I/O.

    holdfast.callback.now.<call id>.<message id>      one whose time has come
    holdfast.callback.later.<call id>.<message id>    one that waits for its next attempt

The headers are those of the call's message, with the URL and the number of attempts made. The payload is the function's
answer as an HTTP message: the callback itself is built anew for each attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from nats.js.api import RetentionPolicy, StorageType, StreamConfig

from holdfast.invocation import CallId, Invocation
from holdfast.queue import wire
from holdfast.queue.answer import KeptAnswer, read_answer, stored_line, write_answer
from holdfast.queue.message import Publication, Undecodable, fields_of, from_delivery

STREAM = "HOLDFAST_callbacks"
SUBJECT_PREFIX = "holdfast.callback."
NOW = f"{SUBJECT_PREFIX}now.>"
# A callback has no request of its own; the message form of an invocation wants one.
_NO_REQUEST = b"POST / HTTP/1.1\r\n\r\n"


@dataclass(frozen=True, slots=True)
class ParkedCallback:
    """One callback between two attempts."""

    invocation: Invocation
    """The call it tells of, without its request."""
    url: str
    queue: str
    answer: KeptAnswer
    duration_s: float
    """What the call's last run took: `X-Duration-Seconds`."""
    attempts: int
    """Attempts made."""
    first_at_ns: int
    """When the first was made."""


def stream_config(*, replicas: int) -> StreamConfig:
    """How the stream is made."""
    return StreamConfig(
        name=STREAM,
        description="Callbacks that wait for their next attempt",
        subjects=[f"{SUBJECT_PREFIX}>"],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        num_replicas=replicas,
        duplicate_window=120.0,
        allow_direct=True,
        allow_msg_ttl=True,
        allow_msg_schedules=True,
    )


def subjects_of_call(call_id: CallId, message_id: str = "*") -> tuple[bytes, bytes]:
    """Patterns that find the callbacks of a call: of all that share the id, or of the one with that message."""
    words = f"{call_id}.{message_id}"
    return f"{SUBJECT_PREFIX}later.{words}".encode(), f"{SUBJECT_PREFIX}now.{words}".encode()


def to_publish(parked: ParkedCallback, at: datetime, word: str = "") -> Publication:
    """The message that brings the callback up again at `at`, aware and in UTC.

    nats-server keeps the latest of several with one subject, so a callback waits for one instant at most. Published
    again for the same attempt it is one; `word` tells it from another one for that attempt.
    """
    invocation = parked.invocation
    words = f"{invocation.call_id}.{invocation.message_id}"
    headers = (
        f"NATS/1.0\r\nNats-Msg-Id: callback/{invocation.message_id}/{parked.first_at_ns}/{parked.attempts}{word}\r\n"
        f"Nats-Schedule: @at {at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}\r\n"
        f"Nats-Schedule-Target: {SUBJECT_PREFIX}now.{words}\r\n{lines_of(parked)}\r\n"
    )
    return Publication(f"{SUBJECT_PREFIX}later.{words}".encode(), headers.encode("ascii"), write_answer(parked.answer))


def to_publish_now(parked: ParkedCallback, message_id: str) -> Publication:
    """The message that has the callback tried at once. Of any number with one `message_id` only the first counts."""
    invocation = parked.invocation
    headers = f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\n{lines_of(parked)}\r\n"
    subject = f"{SUBJECT_PREFIX}now.{invocation.call_id}.{invocation.message_id}"
    return Publication(subject.encode(), headers.encode("ascii"), write_answer(parked.answer))


def lines_of(parked: ParkedCallback) -> str:
    """The header lines that say what a callback is, for every message that is about one."""
    return (
        f"{fields_of(parked.invocation)}"
        f"Holdfast-To: {parked.url}\r\nHoldfast-Queue: {parked.queue}\r\nHoldfast-Duration: {parked.duration_s!r}\r\n"
        f"Holdfast-Callback-Attempts: {parked.attempts}\r\nHoldfast-First-At: {parked.first_at_ns}\r\n"
        f"{stored_line(parked.answer)}"
    )


def from_message(subject: bytes, headers: bytes, payload: bytes) -> ParkedCallback:
    """Read a parked callback. Raises Undecodable or UnreadableAnswer."""
    try:
        return ParkedCallback(
            from_delivery(subject, headers, _NO_REQUEST),
            (wire.header(headers, b"Holdfast-To") or b"").decode("ascii"),
            (wire.header(headers, b"Holdfast-Queue") or b"").decode("ascii"),
            read_answer(payload, headers),
            float(wire.header(headers, b"Holdfast-Duration") or b""),
            int(wire.header(headers, b"Holdfast-Callback-Attempts") or b""),
            int(wire.header(headers, b"Holdfast-First-At") or b""),
        )
    except ValueError as error:
        raise Undecodable(subject, f"its headers cannot be read: {error}") from error
