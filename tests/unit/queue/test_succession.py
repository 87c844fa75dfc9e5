from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.function import FunctionRef
from holdfast.invocation import Attempt, CallId
from holdfast.queue.message import generation_of, original_of
from holdfast.queue.record import CallbackStatus, CallRecord, CallStatus
from holdfast.queue.succession import callback_may_come_to, is_same_end, may_follow

RUN = Attempt(1, 0.5, 503)


def record(status: CallStatus, runs: int = 0, message_id: str = "m", **more: object) -> CallRecord:
    """A record of a call of which so many runs have ended."""
    made = CallRecord(
        CallId("c"), message_id, FunctionRef("f", "n"), "q", status, 100, (RUN,) * runs, finished_at_ns=None
    )
    if status.is_end:
        made = made._replace(finished_at_ns=1_000 + runs)
    return made._replace(**more)  # type: ignore[arg-type]


LIFE = [
    record(CallStatus.WAITING),
    record(CallStatus.RUNNING),
    record(CallStatus.RETRYING, 1),
    record(CallStatus.RUNNING, 1),
    record(CallStatus.RETRYING, 2),
    record(CallStatus.RUNNING, 2),
    record(CallStatus.SUCCEEDED, 3),
]


def test_each_state_may_follow_those_before_it_and_never_those_after() -> None:
    for earlier, stands in enumerate(LIFE):
        for later, comes in enumerate(LIFE):
            assert may_follow(stands, comes) == (later >= earlier), (stands.status, comes.status)


@pytest.mark.parametrize("end", [status for status in CallStatus if status.is_end])
@pytest.mark.parametrize("comes", list(CallStatus))
@pytest.mark.parametrize("runs", [0, 1, 7])
def test_an_end_is_final_whatever_a_worker_writes_that_stood_still(
    end: CallStatus, comes: CallStatus, runs: int
) -> None:
    stands = record(end, 2)
    assert not may_follow(stands, record(comes, runs))


@given(
    stands=st.tuples(st.sampled_from(list(CallStatus)), st.integers(0, 5)),
    comes=st.tuples(st.sampled_from(list(CallStatus)), st.integers(0, 5)),
)
def test_no_two_different_records_of_one_call_may_each_follow_the_other(
    stands: tuple[CallStatus, int], comes: tuple[CallStatus, int]
) -> None:
    one, other = record(*stands), record(*comes)
    if may_follow(one, other) and may_follow(other, one):
        waits = {CallStatus.WAITING, CallStatus.SCHEDULED, CallStatus.RETRYING}
        assert stands[1] == comes[1]
        assert one.status is other.status or {one.status, other.status} <= waits


def test_the_same_end_may_be_written_anew_with_what_became_of_its_callback() -> None:
    pending = record(CallStatus.SUCCEEDED, 1, callback=CallbackStatus.PENDING)
    delivered = pending._replace(callback=CallbackStatus.DELIVERED)
    assert is_same_end(pending, delivered)
    assert may_follow(pending, delivered)
    assert not may_follow(delivered, pending)
    assert not is_same_end(pending, delivered._replace(finished_at_ns=7))


CALLBACK_TABLE = {
    "none": {"none"},
    "pending": {"pending", "delivered", "failed", "cancelled"},
    "failed": {"failed", "delivered", "pending"},
    "cancelled": {"cancelled", "delivered"},
    "delivered": {"delivered"},
}


@pytest.mark.parametrize("stands", list(CallbackStatus))
def test_what_a_callback_may_come_to(stands: CallbackStatus) -> None:
    assert {comes for comes in CallbackStatus if callback_may_come_to(stands, comes)} == CALLBACK_TABLE[stands]


def test_a_replay_takes_the_place_of_the_end_before_it_and_nothing_of_that_takes_its_place() -> None:
    failed = record(CallStatus.FAILED, 1)
    again = record(CallStatus.WAITING, 0, "m/again/2000")
    once_more = record(CallStatus.WAITING, 0, "m/again/3000")
    assert may_follow(failed, again)
    assert may_follow(record(CallStatus.FAILED, 1, "m/again/2000"), once_more)
    for late in (failed, record(CallStatus.RETRYING, 4), record(CallStatus.SUCCEEDED, 5)):
        assert not may_follow(again, late)
        assert not may_follow(record(CallStatus.SUCCEEDED, 1, "m/again/3000"), late)
    assert (original_of("m/again/2000"), generation_of("m/again/2000"), generation_of("m")) == ("m", 2000, 0)


def test_of_two_calls_that_the_version_before_accepted_with_one_id_the_later_one_has_the_record() -> None:
    first = record(CallStatus.RUNNING, 0, "a")
    second = record(CallStatus.WAITING, 0, "b", accepted_at_ns=200)
    assert may_follow(first, second)
    assert not may_follow(second, first._replace(status=CallStatus.SUCCEEDED))
