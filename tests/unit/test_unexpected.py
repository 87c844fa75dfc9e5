from __future__ import annotations

import asyncio

import pytest

from holdfast import unexpected
from holdfast.unexpected import Telling, Work, alone, forever, guarded, set_aside


class Told:
    """What was counted and logged."""

    def __init__(self) -> None:
        self.counted: list[Work] = []
        self.logged: list[tuple[str, int]] = []

    def log(self, _work: Work, error: BaseException, times: int, _about: dict[str, object]) -> None:
        self.logged.append((str(error), times))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(unexpected, "_telling", Telling(told.counted.append, told.log))
    monkeypatch.setattr(unexpected, "_seen", {})
    monkeypatch.setattr(unexpected, "FIRST_PAUSE_S", 0.001)
    return told


class Stopped(Exception):
    pass


async def test_a_loop_goes_on_after_an_error_that_nobody_expected(told: Told) -> None:
    steps: list[int] = []

    async def step() -> None:
        steps.append(len(steps))
        if len(steps) == 2:
            raise KeyError("poison")
        if len(steps) == 5:
            raise Stopped

    await forever(Work.LANES, step, until=Stopped)
    assert steps == [0, 1, 2, 3, 4]
    assert told.counted == [Work.LANES]
    assert told.logged == [("'poison'", 0)]


async def test_a_cancelled_loop_ends_and_is_no_error(told: Told) -> None:
    begun = asyncio.Event()

    async def step() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(forever(Work.LANES, step))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told.counted == []


async def test_an_error_of_one_task_is_not_that_of_the_group(told: Told) -> None:
    async def fails() -> str:
        raise ValueError("one call's trouble")

    async with asyncio.TaskGroup() as tasks:
        one = tasks.create_task(alone(Work.ACCEPTING, fails, lambda error: f"refused: {error}"))
        other = tasks.create_task(asyncio.sleep(0.01, "done"))
    assert (one.result(), other.result()) == ("refused: one call's trouble", "done")
    assert told.counted == [Work.ACCEPTING]


def test_an_error_that_comes_with_every_message_is_counted_each_time_and_logged_once_a_minute(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    @guarded(Work.MESSAGES)
    def read(message: str) -> None:
        raise ValueError(message)

    now = 1000.0
    monkeypatch.setattr("holdfast.unexpected.time.monotonic", lambda: now)
    for number in range(1000):
        read(f"poison {number}")
    assert told.logged == [("poison 0", 0)]
    now += unexpected.AGAIN_S
    read("poison again")
    assert told.logged == [("poison 0", 0), ("poison again", 1000)]
    assert told.counted == [Work.MESSAGES] * 1001


def test_errors_of_two_places_are_both_logged_whole(told: Told) -> None:
    @guarded(Work.MESSAGES)
    def read(message: str) -> None:
        if message:
            raise ValueError(message)
        raise ValueError("empty")

    read("")
    read("full")
    assert [times for _, times in told.logged] == [0, 0]


def test_what_sets_an_error_aside_never_fails_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("no log")

    monkeypatch.setattr(unexpected, "_telling", Telling(broken, broken))
    set_aside(Work.MESSAGES, ValueError())
