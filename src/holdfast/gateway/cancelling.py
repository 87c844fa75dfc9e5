"""Have the worker that runs a call stop it."""

from __future__ import annotations

from holdfast.errors import QueueUnavailable
from holdfast.invocation import CallId
from holdfast.queue.connection import Connection

SUBJECT_PREFIX = "holdfast.cancel."
# Workers listen here; only the one that runs the call answers.
ANSWER_S = 1.0
CANCELLED = b"cancelled"


async def stop_running(connection: Connection, call_id: CallId) -> bool | None:
    """Whether a worker stopped the call, and writes its record; False: it had just ended, None: no worker has it."""
    try:
        answer = await connection.request(f"{SUBJECT_PREFIX}{call_id}".encode(), b"", ANSWER_S)
    except QueueUnavailable:
        return None
    return answer.payload == CANCELLED
