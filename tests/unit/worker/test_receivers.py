from __future__ import annotations

import asyncio

import pytest

from holdfast.worker.receivers import AGAIN_RATE, FAILURES, FIRST_PAUSE_S, LEAST_STALLED, STALLED_S, Receiver, Receivers

PLACES = 64
# Time is the loop's: what happens within these tests happens within a moment, far shorter than any pause.


def known(receivers: Receivers, name: str) -> Receiver:
    return receivers._known[name]


def begin_all(receivers: Receivers, name: str) -> int:
    """Begin as many as may; how many."""
    begun = 0
    while receivers.try_begin(name):
        begun += 1
    return begun


def fail(receivers: Receivers, name: str, times: int) -> None:
    for _ in range(times):
        assert receivers.try_begin(name)
        receivers.ended(known(receivers, name), answered=False, error=OSError("it timed out"))


async def test_one_receiver_has_half_of_the_places_and_the_next_half_of_what_is_left() -> None:
    receivers = Receivers(PLACES)
    assert begin_all(receivers, "a") == 32
    # The last quarter is for receivers that have answered.
    assert begin_all(receivers, "b") == 16
    assert begin_all(receivers, "c") == 0
    receivers.ended(known(receivers, "a"), answered=True)
    receivers.ended(known(receivers, "b"), answered=True)
    assert receivers.under_way == 46


async def test_a_receiver_that_has_answered_finds_a_place_beside_a_thousand_strangers_that_never_do() -> None:
    receivers = Receivers(PLACES)
    assert receivers.try_begin("healthy")
    receivers.ended(known(receivers, "healthy"), answered=True)
    for number in range(1000):
        begin_all(receivers, f"stranger {number}")
    assert receivers.try_begin("healthy")


async def test_after_some_attempts_without_an_answer_nothing_is_sent_for_a_pause_and_then_one_attempt() -> None:
    receivers = Receivers(PLACES)
    fail(receivers, "dead", FAILURES)
    assert not receivers.try_begin("dead")
    assert receivers.try_begin("other")
    assert "it timed out" in receivers.trouble("dead")
    assert receivers.comes_again_s("dead") >= FIRST_PAUSE_S
    await asyncio.sleep(FIRST_PAUSE_S)
    assert receivers.try_begin("dead")
    assert not receivers.try_begin("dead")
    receivers.ended(known(receivers, "dead"), answered=True)
    assert receivers.try_begin("dead")
    assert receivers.try_begin("dead")


async def test_each_attempt_that_finds_the_receiver_dead_doubles_the_pause() -> None:
    receivers = Receivers(PLACES)
    fail(receivers, "dead", FAILURES)
    await asyncio.sleep(FIRST_PAUSE_S)
    fail(receivers, "dead", 1)
    assert not receivers.try_begin("dead")
    assert receivers.comes_again_s("dead") >= 2 * FIRST_PAUSE_S * 0.9


async def test_an_error_answer_is_an_answer() -> None:
    receivers = Receivers(PLACES)
    for _ in range(10 * FAILURES):
        assert receivers.try_begin("picky")
        receivers.ended(known(receivers, "picky"), answered=True)
    fail(receivers, "picky", FAILURES - 1)
    assert receivers.try_begin("picky")


async def test_what_was_not_asked_says_nothing_of_its_receiver() -> None:
    receivers = Receivers(PLACES)
    for _ in range(3 * FAILURES):
        assert receivers.try_begin("forbidden")
        receivers.ended(known(receivers, "forbidden"), answered=None)
    assert receivers.try_begin("forbidden")


async def test_a_receiver_that_has_answered_nothing_for_a_while_gets_no_more() -> None:
    receivers = Receivers(PLACES)
    for _ in range(LEAST_STALLED):
        assert receivers.try_begin("hanging")
    await asyncio.sleep(STALLED_S + 0.05)
    assert not receivers.try_begin("hanging")
    assert not receivers.answers(known(receivers, "hanging"))
    receivers.ended(known(receivers, "hanging"), answered=True)
    assert receivers.try_begin("hanging")
    assert receivers.answers(known(receivers, "hanging"))


async def test_those_that_are_sent_away_come_again_one_after_the_other() -> None:
    receivers = Receivers(PLACES)
    fail(receivers, "dead", FAILURES)
    waits = [receivers.comes_again_s("dead") for _ in range(1000)]
    assert waits == sorted(waits)
    assert waits[-1] - waits[0] == pytest.approx(999 / AGAIN_RATE, rel=0.2)


async def test_the_end_of_a_run_waits_for_a_receiver_that_is_answering_and_not_for_one_that_is_not() -> None:
    receivers = Receivers(PLACES)
    begun = begin_all(receivers, "quick")
    assert not await receivers.begin_soon("quick")
    receivers.ended(known(receivers, "quick"), answered=True)
    assert receivers.try_begin("quick")
    waiting = [asyncio.create_task(receivers.begin_soon("quick")) for _ in range(3)]
    await asyncio.sleep(0)
    receivers.ended(known(receivers, "quick"), answered=True)
    assert [await task is not None for task in waiting] == [True, False, False]
    assert receivers.under_way == begun


async def test_a_place_that_was_given_to_a_task_that_is_cancelled_comes_back() -> None:
    receivers = Receivers(PLACES)
    begun = begin_all(receivers, "quick")
    receivers.ended(known(receivers, "quick"), answered=True)
    assert receivers.try_begin("quick")
    waiting = asyncio.create_task(receivers.begin_soon("quick"))
    await asyncio.sleep(0)
    receivers.ended(known(receivers, "quick"), answered=True)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert receivers.under_way == begun - 1
