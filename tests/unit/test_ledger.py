"""The ledger of the fault tests tells what is missing, and what is explained."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.support.ledger import Asked, Balance, Fault, Run, Sent, balance

KILL = Fault("kill -9", 10.0, 11.0)


def record(status: str = "succeeded", attempts: int = 1, callback: str = "delivered") -> dict[str, Any]:
    return {"status": status, "attempts": [{}] * attempts, "callback": {"status": callback}}


def drawn(found: dict[str, Any] | None, runs: tuple[float, ...] = (1.0,), told: int = 1, **sent: Any) -> Balance:
    sent_ = Sent(accepted={"a": Asked("a", 0.0, "plain", callback=True)}, **sent)
    return balance(sent_, [Run("a", at) for at in runs], Counter({"a": told} if told else {}), {"a": found}, [KILL])


def test_a_call_with_its_end_and_its_callback_is_all_there_is_to_ask_for() -> None:
    assert drawn(record()).holds
    assert drawn(record(attempts=3), (1.0, 2.0, 3.0)).holds
    assert drawn(record("failed", callback="failed"), told=0).holds
    assert drawn(record(callback="cancelled"), told=0).holds
    assert drawn(record("cancelled", attempts=0), (), told=0, cancelled={"a": 5.0}).holds
    assert drawn(record("cancelled", attempts=0), (4.0,), told=0, cancelled={"a": 5.0}).holds


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (drawn(None, ()), "lost"),
        (drawn(record("running", attempts=0), ()), "unfinished"),
        (drawn(record(callback="pending"), told=0), "untold"),
        (drawn(record("cancelled", attempts=0), (6.0,), told=0, cancelled={"a": 5.0}), "run_cancelled"),
        (drawn(record(), (40.0, 41.0)), "unexplained"),
    ],
)
def test_what_is_missing_or_without_a_reason_is_named(found: Balance, name: str) -> None:
    assert not found.holds
    assert getattr(found, name) == ["a"]
    assert name in str(found)


def test_a_second_run_is_explained_by_what_was_done_between_it_and_the_first() -> None:
    found = drawn(record(), (9.0, 12.0), told=2)
    assert found.holds
    assert (found.explained, found.told_again) == (["a"], 1)


def test_a_call_that_was_not_answered_may_run_and_one_that_nobody_sent_may_not() -> None:
    runs = [Run("unanswered", 1.0), Run("stranger", 1.0)]
    found = balance(Sent(unanswered={"unanswered"}), runs, Counter(), {})
    assert found.strangers == ["stranger"]
