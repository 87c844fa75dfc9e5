"""Ask JetStream's API over the thin connection: what is asked often, or while calls run."""

from __future__ import annotations

import json
from typing import Any

from holdfast.errors import QueueRefused, QueueUnavailable
from holdfast.queue.connection import Connection

TIMEOUT_S = 5.0


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
