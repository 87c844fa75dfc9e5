"""Replicas that cannot be reached: how long each rests. Time is a number here."""

from __future__ import annotations

from structlog.testing import capture_logs

from holdfast.function import FunctionRef
from holdfast.http1.client import Origin
from holdfast.unreachable import FIRST_REST_S, FORGET_S, LONGEST_REST_S, SAY_AGAIN_S, Unreachable

REPLICA, OTHER = Origin("10.0.0.6", 4000), Origin("10.0.0.6", 4001)
REF = FunctionRef("echo")


def test_a_replica_rests_longer_each_time_it_fails_and_the_others_not_at_all() -> None:
    replicas, now, rests = Unreachable(), 100.0, []
    for _ in range(8):
        replicas.failed(REPLICA, "refused", now)
        until = replicas.rests_until(REPLICA, now)
        rests.append(round(until - now, 6))
        now = until
    assert rests == [FIRST_REST_S, 0.2, 0.4, 0.8, 1.6, LONGEST_REST_S, LONGEST_REST_S, LONGEST_REST_S]
    assert replicas.rests_until(REPLICA, now) == 0.0
    assert replicas.rests_until(OTHER, 100.0) == 0.0


def test_calls_that_fail_together_count_once() -> None:
    replicas = Unreachable()
    for _ in range(64):
        replicas.failed(REPLICA, "refused", 100.0)
    assert round(replicas.rests_until(REPLICA, 100.0), 6) == 100.0 + FIRST_REST_S


def test_one_that_has_been_well_for_a_while_begins_anew() -> None:
    replicas = Unreachable()
    replicas.failed(REPLICA, "refused", 100.0)
    replicas.failed(REPLICA, "refused", 101.0)
    later = 102.0 + FORGET_S
    replicas.failed(REPLICA, "refused", later)
    assert round(replicas.rests_until(REPLICA, later), 6) == round(later + FIRST_REST_S, 6)


def test_a_wait_is_told_of_at_once_with_what_was_tried_and_once_in_a_while() -> None:
    replicas = Unreachable()
    replicas.failed(REPLICA, "refused", 100.0)
    with capture_logs() as lines:
        for now in (100.0, 100.1, 100.0 + SAY_AGAIN_S):
            replicas.say(REF, (REPLICA, OTHER), "", now)
        replicas.say(FunctionRef("other"), (), "none of its 2 replicas is ready", 100.1)
    assert [line["function"] for line in lines] == ["echo.openfaas-fn"] * 2 + ["other.openfaas-fn"]
    assert lines[0]["tried"] == {"http://10.0.0.6:4000": "refused"}
    assert lines[2]["reason"] == "none of its 2 replicas is ready"
