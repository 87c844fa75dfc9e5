import asyncio
from datetime import UTC, datetime, timedelta

from holdfast.provider import logs
from holdfast.provider.logs import FunctionLogs, Selection


def filled(count: int, most: int = 1000) -> FunctionLogs:
    found = FunctionLogs(most)
    for number in range(count):
        found.append(f"i-{number % 2}", f"line {number}")
    return found


def texts(found: FunctionLogs, selection: Selection) -> list[str]:
    return [line.text for line in found.kept(selection)]


async def test_only_the_last_lines_are_kept() -> None:
    assert texts(filled(10, most=3), Selection()) == ["line 7", "line 8", "line 9"]


async def test_the_kept_text_is_bounded_too() -> None:
    found = FunctionLogs(1000)
    for _ in range(5):
        found.append("i", "x" * (logs.MOST_CHARACTERS // 3))
    assert len(found.kept(Selection())) == 3


async def test_lines_are_selected_by_replica_time_and_number() -> None:
    found = filled(6)
    assert texts(found, Selection(instance="i-1")) == ["line 1", "line 3", "line 5"]
    assert texts(found, Selection(instance="i-1", tail=2)) == ["line 3", "line 5"]
    assert texts(found, Selection(tail=0)) == []
    assert texts(found, Selection(tail=100)) == [f"line {number}" for number in range(6)]
    assert texts(found, Selection(since=datetime.now(UTC) + timedelta(hours=1))) == []
    assert len(texts(found, Selection(since=datetime.now(UTC) - timedelta(hours=1)))) == 6


async def test_a_follower_sees_what_is_there_and_then_what_comes_once_each() -> None:
    found = filled(3)
    following = found.follow(Selection(tail=1))
    async with asyncio.timeout(20):
        assert (await anext(following)).text == "line 2"
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)
        found.append("i", "new 1")
        found.append("i", "new 2")
        assert (await waiting).text == "new 1"
        assert (await anext(following)).text == "new 2"


async def test_a_follower_who_is_too_slow_misses_the_oldest_lines() -> None:
    found = filled(1, most=2)
    following = found.follow(Selection())
    async with asyncio.timeout(20):
        assert (await anext(following)).text == "line 0"
        for number in range(5):
            found.append("i", f"new {number}")
        assert (await anext(following)).text == "new 3"
        assert (await anext(following)).text == "new 4"
