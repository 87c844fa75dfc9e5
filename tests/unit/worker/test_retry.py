from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.headers import RawHeaders
from holdfast.queue.record import CallStatus
from holdfast.settings import WorkerSettings
from holdfast.worker.decision import End, RunAgain, decide
from holdfast.worker.outcome import Outcome, no_answer
from holdfast.worker.retry import LONGEST_RETRY_AFTER_S, RetryPolicy, next_wait_s

SETTINGS = WorkerSettings.from_environment({})
POLICY = RetryPolicy.of(SETTINGS, {})
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def wait(
    policy: RetryPolicy = POLICY,
    *,
    retries: int = 0,
    status: int = 500,
    headers: RawHeaders | None = None,
    dice: float = 0.5,
) -> float | None:
    return next_wait_s(policy, retries, status, headers or [], now=NOW, dice=dice)


def test_the_defaults_are_openfaas_s() -> None:
    assert RetryPolicy(10, frozenset({408, 429, 500, 502, 503, 504}), 10.0, 120.0, "exponential") == POLICY


def test_annotations_change_what_they_name_and_nonsense_changes_nothing() -> None:
    annotated = {
        "com.openfaas.retry.attempts": "3",
        "com.openfaas.retry.codes": "500, 418",
        "com.openfaas.retry.min_wait": "1s",
        "com.openfaas.retry.max_wait": "soon",
        "com.openfaas.queue": "slow",
    }
    assert RetryPolicy.of(SETTINGS, annotated) == RetryPolicy(3, frozenset({500, 418}), 1.0, 120.0, "exponential")
    nonsense = {f"com.openfaas.retry.{name}": "x" for name in ("attempts", "codes", "min_wait", "max_wait", "other")}
    assert RetryPolicy.of(SETTINGS, nonsense) == POLICY


def test_pauses_double_up_to_the_longest() -> None:
    assert [wait(retries=retries) for retries in range(9)] == [10, 20, 40, 80, 120, 120, 120, 120, 120]
    assert wait(retries=9) is None


@pytest.mark.parametrize(
    ("backoff", "dice", "expected"),
    [("full", 0.0, 0.0), ("full", 1.0, 20.0), ("equal", 0.0, 10.0), ("equal", 1.0, 20.0), ("exponential", 1.0, 20.0)],
)
def test_jitter_stays_in_its_bounds(backoff: str, dice: float, expected: float) -> None:
    assert wait(replace(POLICY, backoff=backoff), retries=1, dice=dice) == expected


@pytest.mark.parametrize(("status", "again"), [(200, False), (302, False), (400, False), (404, False), (500, True)])
def test_only_the_listed_codes_are_tried_again(*, status: int, again: bool) -> None:
    assert (wait(status=status) is not None) is again


def test_an_internal_error_is_tried_again_whatever_the_codes_say() -> None:
    internal = [(b"X-OpenFaaS-Internal", b"proxy")]
    assert wait(status=404, headers=internal) == 10
    assert wait(status=200, headers=internal) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"30"], 30),
        ([b"3"], 10),
        ([b"12.5"], 12.5),
        ([b"-5"], 10),
        ([b"soon"], 10),
        ([b""], 10),
        ([b"99999999999999999999"], 10),
        ([b"999999999"], LONGEST_RETRY_AFTER_S),
        ([b"20", b"40"], 40),
        ([b"Tue, 24 Nov 2026 12:01:00 GMT"], 60),
        ([b"Tue, 24 Nov 2026 11:00:00 GMT"], 10),
        ([b"Tue, 99 Nov 2026 11:00:00 GMT"], 10),
        ([b"\xff"], 10),
    ],
)
def test_retry_after_is_honoured_as_far_as_it_makes_sense(values: list[bytes], expected: float) -> None:
    headers = [(b"Retry-After", value) for value in values]
    assert wait(status=503, headers=headers) == expected
    assert wait(status=500, headers=headers) == 10


@given(
    retries=st.integers(0, 2000),
    status=st.integers(100, 599),
    value=st.binary(max_size=40),
    dice=st.floats(0, 1),
    backoff=st.sampled_from(["exponential", "full", "equal"]),
)
def test_no_answer_makes_a_pause_out_of_bounds(
    retries: int, *, status: int, value: bytes, dice: float, backoff: str
) -> None:
    policy = replace(POLICY, attempts=1000, backoff=backoff)
    waited = wait(policy, retries=retries, status=status, headers=[(b"Retry-After", value)], dice=dice)
    assert waited is None or 0 <= waited <= LONGEST_RETRY_AFTER_S


def test_what_follows_a_run_is_decided_by_its_status() -> None:
    def decided(outcome: Outcome, retries: int = 0) -> RunAgain | End:
        return decide(outcome, retries, POLICY, now=NOW, dice=0.5)

    assert decided(Outcome(204, [], b"", 1.0, 1)) == End(CallStatus.SUCCEEDED)
    assert decided(Outcome(302, [], b"", 1.0, 1)) == End(CallStatus.SUCCEEDED)
    assert decided(Outcome(422, [], b"", 1.0, 1)) == End(CallStatus.FAILED, "the function answered 422")
    assert decided(Outcome(500, [], b"", 1.0, 1)) == RunAgain(10)
    assert decided(no_answer(504, "too slow", 1.0, 1)) == RunAgain(10)
    assert decided(no_answer(504, "too slow", 1.0, 1), 9) == End(CallStatus.FAILED, "too slow, after 10 runs")
