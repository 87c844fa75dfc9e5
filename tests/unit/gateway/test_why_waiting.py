"""Why a call waits, case by case."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from holdfast.function import FunctionRef
from holdfast.gateway.why_waiting import Around, Reason, Why, why_waiting
from holdfast.invocation import Attempt, CallId, Invocation
from holdfast.queue.depth import FOR_EVER, Consumer
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.queue.waiting import Waiting

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = "2026-01-01T12:00:30Z"
CALL = Invocation(CallId("c1"), "m1", FunctionRef("figlet"), 1, None, b"POST / HTTP/1.1\r\n\r\n")
RUN = Attempt(1, 0.1, 500, None)
WELL = Around(is_served=True, at_zero=False)


def line(
    *, handed_out: int = 0, waiting: int = 10, running: int = 0, limit: int | None = None, until: datetime | None = None
) -> Consumer:
    return Consumer("workers", "q.call.>", handed_out, waiting, running, limit, until, NOW)


def standing(sequence: int, at: Consumer | None) -> Waiting:
    return Waiting(CALL, "q", None, sequence, at)


def later(*attempts: Attempt) -> Waiting:
    return Waiting(CALL._replace(attempts=attempts), "q", LATER, 7, None)


@pytest.mark.parametrize(
    ("where", "around", "expected"),
    [
        (standing(1, line()), WELL, Reason(Why.POSITION, "0 calls are in front of it in the queue q", 1)),
        (standing(2, line()), WELL, Reason(Why.POSITION, "1 call is in front of it in the queue q", 2)),
        (
            standing(9, line(handed_out=4)),
            WELL,
            Reason(Why.POSITION, "4 calls are in front of it in the queue q", 5),
        ),
        # What was cancelled or is scheduled took numbers too: no more than wait can be in front.
        (
            standing(900, line(waiting=3)),
            WELL,
            Reason(Why.POSITION, "2 calls are in front of it in the queue q", 3),
        ),
        # No worker has ever been there, and nobody can say yet whether there is one.
        (
            standing(5, None),
            WELL._replace(is_served=None),
            Reason(Why.POSITION, "0 calls are in front of it in the queue q", 1),
        ),
        (standing(1, line()), WELL._replace(is_served=False), Reason(Why.NO_WORKER, "no worker serves the queue q", 1)),
        (
            standing(1, line(until=FOR_EVER)),
            WELL._replace(is_served=False),
            Reason(Why.PAUSED, "the queue q is paused until it is resumed", 1),
        ),
        (
            standing(1, line(until=datetime(2026, 1, 1, 13, 0, 0, 7, tzinfo=UTC))),
            WELL,
            Reason(Why.PAUSED, "the queue q is paused until 2026-01-01T13:00:00Z", 1),
        ),
        (
            standing(3, line(running=2, limit=2)),
            WELL,
            Reason(Why.LIMIT, "its function runs 2 calls, which is as many as it may", 3),
        ),
        (
            standing(3, line(running=2, limit=5)),
            WELL._replace(limit=2),
            Reason(Why.LIMIT, "its function runs 2 calls, which is as many as it may", 3),
        ),
        (
            standing(3, line(running=2, limit=5)),
            WELL._replace(held_until=LATER),
            Reason(Why.LIMIT, f"its function asked for no calls until {LATER}", 3),
        ),
        (
            standing(3, line(running=1, limit=2)),
            WELL,
            Reason(Why.POSITION, "2 calls are in front of it in the queue q", 3),
        ),
        (later(), WELL, Reason(Why.DELAYED, f"its caller delayed it until {LATER}")),
        (later(RUN, RUN), WELL, Reason(Why.BACKING_OFF, f"run 2 failed, the next is at {LATER}")),
        (standing(4, line(handed_out=4)), WELL, None),
        (
            standing(4, line(handed_out=4)),
            WELL._replace(at_zero=True),
            Reason(Why.AT_ZERO, "a worker has it and waits until a replica of the function is ready"),
        ),
    ],
)
def test_the_first_thing_in_its_way_is_told(where: Waiting, around: Around, expected: Reason | None) -> None:
    assert why_waiting(CallRecord.of(CALL, "q", CallStatus.WAITING), where, around) == expected


@pytest.mark.parametrize(
    ("status", "at_zero", "why"),
    [
        (CallStatus.RUNNING, False, None),
        (CallStatus.RUNNING, True, Why.AT_ZERO),
        # For a moment in no queue: about to be parked.
        (CallStatus.RETRYING, True, None),
    ],
)
def test_a_call_that_is_in_no_queue_waits_only_for_its_function(
    status: CallStatus,
    at_zero: bool,  # noqa: FBT001 - a column of the table
    why: Why | None,
) -> None:
    reason = why_waiting(CallRecord.of(CALL, "q", status), None, WELL._replace(at_zero=at_zero))
    assert (None if reason is None else reason.why) == why
