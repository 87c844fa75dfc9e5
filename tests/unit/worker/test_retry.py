from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.headers import RawHeaders
from holdfast.queue.record import CallStatus
from holdfast.settings import WorkerSettings
from holdfast.worker.decision import End, RunAgain, decide
from holdfast.worker.outcome import Outcome, no_answer
from holdfast.worker.retry import (
    LONGEST_RETRY_AFTER_S,
    LONGEST_WAIT_S,
    MOST_ATTEMPTS,
    RetryPolicy,
    next_wait_s,
    retry_after_s,
)

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


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("attempts", "", 10),
        ("attempts", "-1", 10),
        ("attempts", "1_0", 10),
        ("attempts", "3.0", 10),
        ("attempts", " 3 ", 3),
        ("attempts", "0", 1),
        ("attempts", "1", 1),
        ("attempts", "9" * 30, MOST_ATTEMPTS),
        ("codes", "", POLICY.codes),
        ("codes", " , ", POLICY.codes),
        ("codes", "4xx", POLICY.codes),
        ("codes", "429,99", POLICY.codes),
        ("codes", "429,600", POLICY.codes),
        ("codes", "429, 503,", frozenset({429, 503})),
        ("min_wait", "-1s", 10.0),
        ("min_wait", "", 10.0),
        ("min_wait", "5", 5.0),
        ("min_wait", "0s", 0.0),
        ("min_wait", "9" * 15, LONGEST_WAIT_S),
        ("min_wait", "9" * 100, LONGEST_WAIT_S),
        ("max_wait", "1m30s", 90.0),
        ("max_wait", "1s", 10.0),
        ("max_wait", "9" * 100, LONGEST_WAIT_S),
    ],
)
def test_an_annotation_is_used_left_out_or_brought_within_bounds(
    name: str, value: str, expected: float | frozenset[int]
) -> None:
    policy = RetryPolicy.of(SETTINGS, {f"com.openfaas.retry.{name}": value})
    assert getattr(policy, {"min_wait": "min_wait_s", "max_wait": "max_wait_s"}.get(name, name)) == expected


def test_the_worker_s_own_settings_are_brought_within_bounds_too() -> None:
    settings = WorkerSettings.from_environment({"initial_retry_wait": "9" * 100, "max_retry_wait": "1s"})
    policy = RetryPolicy.of(settings, {})
    assert (policy.min_wait_s, policy.max_wait_s) == (LONGEST_WAIT_S, LONGEST_WAIT_S)
    assert RetryPolicy.of(WorkerSettings.from_environment({"initial_retry_wait": "0s"}), {}).min_wait_s == 0


def test_attempts_counts_the_first_run() -> None:
    three = replace(POLICY, attempts=3)
    assert [wait(three, retries=retries) is not None for retries in range(4)] == [True, True, False, False]
    assert wait(replace(POLICY, attempts=1)) is None


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
    assert wait(status=404, headers=internal, retries=9) is None


def test_a_success_is_final_even_if_the_codes_list_it() -> None:
    assert wait(replace(POLICY, codes=frozenset({200, 302})), status=200) is None
    assert wait(replace(POLICY, codes=frozenset({200, 302})), status=302) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"30"], 30),
        ([b"3"], 10),
        ([b"12.5"], 12.5),
        ([b"-5"], 10),
        ([b"soon"], 10),
        ([b""], 10),
        ([b"999999999"], LONGEST_RETRY_AFTER_S),
        ([b"9" * 20], LONGEST_RETRY_AFTER_S),
        ([b"9" * 5000], LONGEST_RETRY_AFTER_S),
        ([b"inf"], 10),
        ([b"nan"], 10),
        ([b"1e3"], 10),
        ([b"0x20"], 10),
        ([b"20, 40"], 10),
        ([b"20", b"40"], 40),
        ([b"40", b"soon"], 40),
        ([b"30", b"Tue, 24 Nov 2026 12:01:00 GMT"], 60),
        ([b"Tue, 24 Nov 2026 12:01:00 GMT"], 60),
        ([b"Tuesday, 24-Nov-26 12:01:00 GMT"], 60),
        ([b"Tue Nov 24 12:01:00 2026"], 60),
        ([b"Tue, 24 Nov 2026 14:01:00 +0200"], 60),
        ([b"Fri, 31 Dec 9999 23:59:59 GMT"], LONGEST_RETRY_AFTER_S),
        ([b"Tue, 24 Nov 2026 11:00:00 GMT"], 10),
        ([b"Tue, 99 Nov 2026 11:00:00 GMT"], 10),
        ([b"\xff"], 10),
    ],
)
def test_retry_after_is_honoured_as_far_as_it_makes_sense(values: list[bytes], expected: float) -> None:
    headers = [(b"Retry-After", value) for value in values]
    assert wait(status=503, headers=headers) == expected
    assert wait(status=500, headers=headers) == 10


def test_retry_after_takes_the_place_of_jitter_and_of_the_longest_pause() -> None:
    headers = [(b"retry-after", b"300")]
    for backoff in ("exponential", "full", "equal"):
        assert wait(replace(POLICY, backoff=backoff), status=429, headers=headers, dice=0.0) == 300
    assert wait(status=404, headers=headers) is None
    assert wait(replace(POLICY, min_wait_s=2 * LONGEST_RETRY_AFTER_S), status=429, headers=headers) == 172_800


# Properties, for every policy that annotations can make and every answer that a function can give.

DURATIONS = st.one_of(
    st.integers(0, 10**30).map(str), st.sampled_from(["1ms", "1h", "2400h", "-1s", "9" * 400]), st.text(max_size=8)
)
ANNOTATIONS = st.fixed_dictionaries(
    {},
    optional={
        "com.openfaas.retry.attempts": st.one_of(st.integers(-5, 10**12).map(str), st.text(max_size=8)),
        "com.openfaas.retry.codes": st.one_of(
            st.lists(st.integers(90, 610)).map(lambda codes: ",".join(map(str, codes))), st.text(max_size=8)
        ),
        "com.openfaas.retry.min_wait": DURATIONS,
        "com.openfaas.retry.max_wait": DURATIONS,
    },
)
POLICIES = st.builds(
    lambda annotations, backoff: replace(RetryPolicy.of(SETTINGS, annotations), backoff=backoff),
    ANNOTATIONS,
    st.sampled_from(["exponential", "full", "equal"]),
)
DATE_LIKE = st.lists(
    st.sampled_from(
        ["Tue,", "Tuesday,", "24", "Nov", "24-Nov-26", "2026", "9999", "0001", "12:01:00", "12.01", "GMT", "+9999"]
    )
    | st.sampled_from([":", "+", "-", ",", "-2359", "-0000", "9" * 20]),
    max_size=7,
).map(lambda words: " ".join(words).encode())
RETRY_AFTER = st.one_of(
    st.binary(max_size=40),
    st.integers(-(10**25), 10**25).map(lambda n: b"%d" % n),
    st.floats().map(lambda x: repr(x).encode()),
    st.datetimes().map(lambda at: format_datetime(at.replace(tzinfo=UTC), usegmt=True).encode()),
    DATE_LIKE,
)
RETRY_AFTERS: st.SearchStrategy[RawHeaders] = st.lists(
    st.tuples(st.sampled_from([b"Retry-After", b"retry-after"]), RETRY_AFTER), max_size=3
)
DICE = st.floats(0, 1)


@given(policy=POLICIES)
def test_every_policy_is_within_its_bounds(policy: RetryPolicy) -> None:
    assert 1 <= policy.attempts <= MOST_ATTEMPTS
    assert policy.codes
    assert policy.codes <= set(range(100, 600))
    assert 0 <= policy.min_wait_s <= policy.max_wait_s <= LONGEST_WAIT_S


@given(policy=POLICIES, retries=st.integers(0, 2000), status=st.integers(100, 599), headers=RETRY_AFTERS, dice=DICE)
def test_every_pause_can_be_counted_from_now_and_only_an_error_has_one(
    policy: RetryPolicy, *, retries: int, status: int, headers: RawHeaders, dice: float
) -> None:
    waited = wait(policy, retries=retries, status=status, headers=headers, dice=dice)
    again = status >= 400 and status in policy.codes and retries + 1 < policy.attempts
    assert (waited is not None) is again
    if waited is not None:
        assert 0 <= waited <= LONGEST_WAIT_S
        assert NOW + timedelta(seconds=waited) >= NOW


@given(policy=POLICIES, status=st.sampled_from([429, 503]), headers=RETRY_AFTERS, dice=DICE)
def test_a_pause_that_was_asked_for_is_never_below_min_wait_nor_above_a_day(
    policy: RetryPolicy, *, status: int, headers: RawHeaders, dice: float
) -> None:
    policy = replace(policy, attempts=2, codes=frozenset({429, 503}))
    waited = wait(policy, status=status, headers=headers, dice=dice)
    assert waited is not None
    if retry_after_s(headers, NOW) is not None:
        assert policy.min_wait_s <= waited <= max(policy.min_wait_s, LONGEST_RETRY_AFTER_S)


@given(policy=POLICIES, dice=DICE)
def test_without_jitter_pauses_grow_from_min_wait_to_max_wait(policy: RetryPolicy, dice: float) -> None:
    policy = replace(policy, attempts=MOST_ATTEMPTS, codes=frozenset({500}), backoff="exponential")
    pauses = [wait(policy, retries=retries, dice=dice) or 0.0 for retries in range(MOST_ATTEMPTS - 1)]
    assert pauses[0] == policy.min_wait_s
    assert pauses == sorted(pauses)
    assert pauses[-1] == (policy.max_wait_s if policy.min_wait_s else 0)


@given(policy=POLICIES, retries=st.integers(0, MOST_ATTEMPTS - 2), dice=DICE)
def test_jitter_takes_at_most_all_or_half_of_the_pause(policy: RetryPolicy, retries: int, dice: float) -> None:
    policy = replace(policy, attempts=MOST_ATTEMPTS, codes=frozenset({500}))
    plain = wait(replace(policy, backoff="exponential"), retries=retries) or 0.0
    full = wait(replace(policy, backoff="full"), retries=retries, dice=dice)
    equal = wait(replace(policy, backoff="equal"), retries=retries, dice=dice)
    assert full is not None
    assert equal is not None
    assert 0 <= full <= plain
    assert plain / 2 <= equal <= plain


def test_what_follows_a_run_is_decided_by_its_status() -> None:
    def decided(outcome: Outcome, retries: int = 0) -> RunAgain | End:
        return decide(outcome, retries, POLICY, now=NOW, dice=0.5)

    assert decided(Outcome(204, [], b"", 1.0, 1)) == End(CallStatus.SUCCEEDED)
    assert decided(Outcome(302, [], b"", 1.0, 1)) == End(CallStatus.SUCCEEDED)
    assert decided(Outcome(422, [], b"", 1.0, 1)) == End(CallStatus.FAILED, "the function answered 422")
    assert decided(Outcome(500, [], b"", 1.0, 1)) == RunAgain(10)
    assert decided(no_answer(504, "too slow", 1.0, 1)) == RunAgain(10)
    assert decided(no_answer(504, "too slow", 1.0, 1), 9) == End(CallStatus.FAILED, "too slow, after 10 runs")
