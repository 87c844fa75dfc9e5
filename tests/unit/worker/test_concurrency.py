from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from holdfast.function import FunctionRef
from holdfast.worker.concurrency import LONGEST_HOLD_S, Concurrency

REF = FunctionRef("resize")
SLOTS = 64


def test_what_never_said_too_many_has_all_slots() -> None:
    concurrency = Concurrency(SLOTS)
    concurrency.well(REF, 0.0)
    assert not concurrency
    assert concurrency.limit(REF, 0.0) == SLOTS


def test_the_first_refusal_halves_and_those_begun_before_it_say_nothing_new() -> None:
    concurrency = Concurrency(SLOTS)
    for _ in range(10):
        concurrency.too_many(REF, 40, began=1.0, now=2.0, retry_after_s=None)
    assert concurrency.limit(REF, 2.0) == 20


def test_one_always_runs_however_often_it_is_refused() -> None:
    concurrency = Concurrency(SLOTS)
    for second in range(1, 20):
        concurrency.too_many(REF, 64, began=second - 0.5, now=second, retry_after_s=None)
    assert concurrency.limit(REF, 20.0) == 1


def test_retry_after_holds_the_function_and_no_longer_than_five_minutes() -> None:
    concurrency = Concurrency(SLOTS)
    concurrency.too_many(REF, 8, began=1.0, now=2.0, retry_after_s=3.0)
    assert concurrency.limit(REF, 4.9) == 0
    assert concurrency.limit(REF, 5.0) == 4
    concurrency.too_many(REF, 8, began=1.0, now=6.0, retry_after_s=1e9)
    assert concurrency.held(6.0) == [(REF, 6.0 + LONGEST_HOLD_S)]


def test_a_limit_that_has_grown_to_all_slots_is_forgotten() -> None:
    concurrency = Concurrency(4)
    concurrency.too_many(REF, 4, began=0.0, now=1.0, retry_after_s=None)
    for _ in range(100):
        concurrency.well(REF, 2.0)
    assert not concurrency


@given(capacity=st.integers(1, 63), start=st.integers(1, SLOTS))
def test_a_function_with_a_fixed_capacity_is_soon_refused_rarely_and_kept_busy(capacity: int, start: int) -> None:
    concurrency = Concurrency(SLOTS)
    now = 0.0
    running: deque[tuple[float, bool]] = deque()
    refused = 0
    for step in range(6000):
        now += 1.0
        while len(running) < min(concurrency.limit(REF, now), start if step == 0 else SLOTS):
            running.append((now, sum(not bad for _, bad in running) >= capacity))
        began, bad = running.popleft()
        if bad:
            refused += step >= 3000
            concurrency.too_many(REF, len(running) + 1, began, now, None)
        else:
            concurrency.well(REF, began)
    assert refused < 150  # of 3000
    assert concurrency.limit(REF, now) >= max(1, capacity // 2)
