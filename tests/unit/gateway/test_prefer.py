"""What `Prefer` says."""

from __future__ import annotations

import time

import pytest

from holdfast.gateway.prefer import read_preference


@pytest.mark.parametrize(
    ("values", "wait_s"),
    [
        ([b"respond-async"], 0),
        ([b"respond-async, wait=5"], 5),
        ([b"wait=5,respond-async"], 5),
        ([b"Respond-Async; why=not , WAIT = 7"], 7),
        ([b'respond-async, wait="9"'], 9),
        ([b"wait=3", b"respond-async"], 3),
        ([b'note="a, b", respond-async, wait=2'], 2),
        # The first mention counts.
        ([b"respond-async, wait=1, wait=50"], 1),
        # Too long is cut, however many digits it has.
        ([b"respond-async, wait=61"], 60),
        ([b"respond-async, wait=" + b"9" * 4000], 60),
        # What is no number of seconds is ignored.
        ([b"respond-async, wait=soon"], 0),
        ([b"respond-async, wait=-1"], 0),
        ([b"respond-async, wait=1.5"], 0),
        ([b"respond-async, wait"], 0),
        (["respond-async, wait=٣".encode()], 0),
        # Nobody asked for a 202.
        ([b"wait=5"], None),
        ([b"return=minimal, handling=lenient"], None),
        ([b'note="respond-async"'], None),
        ([b"respond-asynchronously"], None),
        ([b""], None),
        ([b',,;=,"'], None),
    ],
)
def test_a_preference_is_read_as_rfc_7240_says(values: list[bytes], wait_s: int | None) -> None:
    preference = read_preference([(b"pReFeR", value) for value in values], 60.0)
    assert (None if preference is None else preference.wait_s) == wait_s


@pytest.mark.parametrize("value", [b'"' + b'\\"' * 50_000, b'"' * 99_999, b'a"b,' * 30_000 + b'"', b'"\\' * 50_000])
def test_quotes_that_are_left_open_are_not_looked_for_again_and_again(value: bytes) -> None:
    began = time.process_time()
    assert read_preference([(b"Prefer", b"respond-async, " + value)], 60.0) is not None
    # Milliseconds; looking again from each quote takes minutes.
    assert time.process_time() - began < 5


def test_what_is_applied_is_said_as_it_is_applied() -> None:
    cut = read_preference([(b"Prefer", b"respond-async, wait=999")], 60.0)
    assert cut is not None
    assert cut.applied() == b"respond-async, wait=60"
    at_once = read_preference([(b"Prefer", b"respond-async, wait=soon")], 60.0)
    assert at_once is not None
    assert at_once.applied() == b"respond-async"
