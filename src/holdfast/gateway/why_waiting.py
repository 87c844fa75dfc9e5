"""Say why a call waits: the first thing that stands in its way. No I/O, no clock.

What is known of the call, its queue and its function is gathered by calls.py.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, NamedTuple

from holdfast.queue.depth import END_OF_PAUSE_UNKNOWN
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.queue.waiting import Waiting


class Why(enum.StrEnum):
    """What a call waits for."""

    POSITION = "position"
    PAUSED = "paused"
    NO_WORKER = "no worker"
    LIMIT = "limit"
    AT_ZERO = "function at zero"
    DELAYED = "delayed until"
    BACKING_OFF = "backing off until"


class Reason(NamedTuple):
    """Why a call waits."""

    why: Why
    text: str
    position: int | None = None
    """Its place among those that can run, 1 for the next; None for a call that is not in that line."""

    def document(self) -> dict[str, Any]:
        """As callers see it."""
        return {"reason": self.why, "position": self.position, "text": self.text}


class Around(NamedTuple):
    """What is known of a call's queue and function."""

    is_served: bool | None
    """Whether its queue has workers; None: cannot be told."""
    at_zero: bool
    """Whether its function has no replica that can be called."""
    trouble: str = ""
    """Why, as far as that is known."""
    limit: int | None = None
    """How many calls of its function workers have learned to run at once; None: no such limit."""
    held_until: str | None = None
    """Until when its function asked to be left alone, if it did."""


def why_waiting(record: CallRecord, standing: Waiting | None, around: Around) -> Reason | None:
    """Why a call that has not ended waits, by its record and by where it stands in its queue; None: it does not."""
    if standing is not None and standing.scheduled_at is not None:
        return _until(standing.scheduled_at, len(standing.invocation.attempts))
    if standing is not None and not standing.handed_out:
        return _in_line(standing, around)
    # Taken by a worker; or in no queue for a moment, about to be parked or to end.
    if around.at_zero and (standing is not None or record.status is CallStatus.RUNNING):
        why = f": {around.trouble}" if around.trouble else ""
        return Reason(Why.AT_ZERO, f"a worker has it and waits until a replica of the function is ready{why}")
    return None


def _until(instant: str, runs: int) -> Reason:
    if runs:
        return Reason(Why.BACKING_OFF, f"run {runs} failed, the next is at {instant}")
    return Reason(Why.DELAYED, f"its caller delayed it until {instant}")


def _in_line(standing: Waiting, around: Around) -> Reason:
    """The call could run: who or what keeps it."""
    line, position = standing.line, standing.position
    if line is not None and line.paused_until is not None:
        return Reason(
            Why.PAUSED, f"the queue {standing.queue} is paused until {_end_of_pause(line.paused_until)}", position
        )
    if around.is_served is False:
        worker = f"worker of its provider {standing.provider}" if standing.provider else "worker"
        return Reason(Why.NO_WORKER, f"no {worker} serves the queue {standing.queue}", position)
    if around.held_until is not None:
        return Reason(Why.LIMIT, f"its function asked for no calls until {around.held_until}", position)
    limits = [limit for limit in (around.limit, None if line is None else line.limit) if limit is not None]
    if line is not None and limits and line.running >= min(limits):
        return Reason(Why.LIMIT, f"its function runs {line.running} calls, which is as many as it may", position)
    before = max(0, position - 1)
    calls = "1 call is" if before == 1 else f"{before} calls are"
    return Reason(Why.POSITION, f"{calls} in front of it in the queue {standing.queue}", position)


def _end_of_pause(until: datetime) -> str:
    if until > END_OF_PAUSE_UNKNOWN:
        return "it is resumed"
    return until.isoformat(timespec="seconds").replace("+00:00", "Z")
