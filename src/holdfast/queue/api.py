"""Ask JetStream's API over the thin connection: what is asked often, or while calls run."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from holdfast.errors import QueueRefused, QueueUnavailable
from holdfast.queue import wire
from holdfast.queue.connection import Connection

TIMEOUT_S = 5.0
NOT_FOUND = 404
NOT_THERE = frozenset({400, NOT_FOUND})
NO_MESSAGE = "no message found"
# nats-server's words within 10057, "the message could not be deleted", which it sends with status 500.


async def ask(connection: Connection, subject: str, **body: Any) -> dict[str, Any]:
    """Ask under `$JS.API.<subject>`. Raises QueueRefused for an error, QueueUnavailable when nobody can say."""
    payload = json.dumps(body).encode() if body else b""
    answer = await connection.request(f"$JS.API.{subject}".encode(), payload, TIMEOUT_S)
    try:
        fields: dict[str, Any] = json.loads(answer.payload)
        error = fields.get("error")
        if error is not None:
            raise QueueRefused(
                int(error.get("code", 0)), int(error.get("err_code", 0)), str(error.get("description", ""))
            )
    except (ValueError, TypeError, AttributeError) as problem:
        raise QueueUnavailable(f"JetStream's answer cannot be read: {answer.payload[:200]!r}") from problem
    return fields


async def delete(connection: Connection, stream: str, sequence: int) -> bool:
    """Delete one message; False when it is not there any more. Raises QueueError."""
    try:
        await ask(connection, f"STREAM.MSG.DELETE.{stream}", seq=sequence, no_erase=True)
    except QueueRefused as error:
        if error.code not in NOT_THERE and NO_MESSAGE not in error.description:
            raise
        return False
    return True


class Found(NamedTuple):
    """A message as it stands in a stream."""

    subject: bytes
    sequence: int
    headers: bytes
    payload: bytes
    stored_at: str = ""
    """By NATS's clock, RFC 3339."""


async def last_by_replica(connection: Connection, stream: str, pattern: str) -> Found | None:
    """The last message under a pattern of subjects, as any replica has it, which may lag behind.

    Raises QueueUnavailable.
    """
    wanted = json.dumps({"last_by_subj": pattern}).encode()
    message = await connection.request(f"$JS.API.DIRECT.GET.{stream}".encode(), wanted, TIMEOUT_S)
    status = wire.status(message.headers)
    if status == NOT_FOUND:
        return None
    if status:
        raise QueueUnavailable(f"{pattern} cannot be read: {wire.status_text(message.headers)}")
    subject = wire.header(message.headers, b"Nats-Subject") or b""
    sequence = int(wire.header(message.headers, b"Nats-Sequence") or b"0")
    stored_at = (wire.header(message.headers, b"Nats-Time-Stamp") or b"").decode("ascii", "replace")
    return Found(subject, sequence, message.headers, message.payload, stored_at)


async def last_by_leader(connection: Connection, stream: str, pattern: str) -> Found | None:
    """The same as the stream's leader has it, who has all. Raises QueueError."""
    try:
        answer = await ask(connection, f"STREAM.MSG.GET.{stream}", last_by_subj=pattern)
    except QueueRefused as error:
        if error.code == NOT_FOUND:
            return None
        raise
    message = answer["message"]
    headers, payload = (base64.b64decode(message.get(part, "")) for part in ("hdrs", "data"))
    return Found(message["subject"].encode(), int(message["seq"]), headers, payload, str(message.get("time", "")))
