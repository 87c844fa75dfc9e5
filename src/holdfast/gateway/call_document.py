"""A call's record as callers see it: a JSON document. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from holdfast.queue.dead_letter import Kind
from holdfast.queue.record import CallbackStatus, CallRecord, CallStatus
from holdfast.queue.waiting import Waiting

IN_QUEUE = frozenset({CallStatus.WAITING, CallStatus.SCHEDULED, CallStatus.RETRYING})
"""What a record may say of a call that its place in the queue says better."""


def of_record(record: CallRecord) -> dict[str, Any]:
    """The document of a call that has a record."""
    first = record.attempts[0].started_at_ns if record.attempts else record.running_since_ns
    result = record.result
    return {
        **_head(record),
        "started_at": _time(first),
        "finished_at": _time(record.finished_at_ns),
        "attempts": [
            {
                "started_at": _time(attempt.started_at_ns),
                "duration_seconds": round(attempt.duration_s, 6),
                "status": attempt.status,
                "error": attempt.error,
            }
            for attempt in record.attempts
        ],
        "next_attempt_at": _time(record.next_attempt_at_ns),
        "reason": record.reason,
        "result": None
        if result is None
        else {
            "status": result.status,
            "content_type": next(
                (value.decode("latin-1") for name, value in result.headers if name.lower() == b"content-type"), None
            ),
            "bytes": result.size,
        },
        "callback": None
        if record.callback_url is None
        else {
            "url": record.callback_url,
            "status": record.callback,
            "attempts": record.callback_attempts,
            "error": record.callback_error,
            "next_attempt_at": _time(record.callback_next_at_ns),
            "dead_letter": f"/system/dead-letters/{record.call_id}?kind={Kind.CALLBACK}"
            if record.callback is CallbackStatus.FAILED
            else None,
        },
        "links": _links(record),
    }


def of_waiting(standing: Waiting) -> dict[str, Any]:
    """The document of a call that stands in its queue and has no record yet."""
    return {**of_record(record_of(standing)), "next_attempt_at": standing.scheduled_at}


def of_both(record: CallRecord, standing: Waiting | None) -> dict[str, Any]:
    """The document of a call that has a record and may stand in its queue as well.

    A record is not written anew when its call moves within the queue, so its place there tells where it is now.
    """
    if standing is None or standing.invocation.message_id != record.message_id:
        return of_record(record)
    return {
        **of_record(record._replace(status=_status_of(standing))),
        "next_attempt_at": standing.scheduled_at,
    }


def record_of(standing: Waiting) -> CallRecord:
    """The record of a call that stands in its queue and has none yet."""
    return CallRecord.of(standing.invocation, standing.queue, _status_of(standing))


def _status_of(standing: Waiting) -> CallStatus:
    if standing.scheduled_at is not None:
        return CallStatus.RETRYING if standing.invocation.attempts else CallStatus.SCHEDULED
    return CallStatus.RUNNING if standing.handed_out else CallStatus.WAITING


def _head(record: CallRecord) -> dict[str, Any]:
    return {
        "id": record.call_id,
        "x_call_id": record.common_id,
        "function": record.function.name,
        "namespace": record.function.namespace,
        "queue": record.queue,
        "status": record.status,
        "accepted_at": _time(record.accepted_at_ns),
    }


def _links(record: CallRecord) -> dict[str, str]:
    here = path_of(record.call_id)
    links = {"self": here, "events": f"{here}/events"}
    if record.chain_id is not None:
        links["chain"] = path_of(record.chain_id)
    if record.result is not None:
        links["result"] = f"{here}/result"
    if record.owes_callback or not record.status.is_end:
        links["cancel"] = here
    return links


def path_of(call_id: str) -> str:
    """Where to ask for a call, or for the first one of a chain."""
    return f"/async-function/{call_id}"


def rfc3339(at_ns: int) -> str:
    """Unix nanoseconds as RFC 3339 writes an instant: in UTC, to the microsecond."""
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _time(at_ns: int | None) -> str | None:
    return None if at_ns is None else rfc3339(at_ns)
