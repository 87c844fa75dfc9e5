from __future__ import annotations

import asyncio

import pytest

from holdfast.function import FunctionRef
from holdfast.queue.handout import Stopped
from holdfast.worker.concurrency import Concurrency
from holdfast.worker.turns import Turns

A, B, C = FunctionRef("a"), FunctionRef("b"), FunctionRef("c")


def begun(tasks: list[asyncio.Task[None]]) -> int:
    return sum(task.done() for task in tasks)


async def waiting(turns: Turns, ref: FunctionRef, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(turns.begin(ref)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_functions_take_turns_however_many_calls_each_has() -> None:
    turns = Turns(2, Concurrency(2))
    assert turns.try_begin(A)
    assert turns.try_begin(A)
    many, one = await waiting(turns, A, 5), await waiting(turns, B, 1)
    order = []
    for _ in range(3):
        turns.end(A)
        await asyncio.sleep(0)
        order.append((begun(many), begun(one)))
    assert order == [(1, 0), (1, 1), (2, 1)]
    turns.stop()
    await asyncio.wait(many)


async def test_a_sixteenth_is_kept_for_functions_of_which_nothing_runs() -> None:
    turns = Turns(32, Concurrency(32))
    assert [turns.try_begin(A) for _ in range(34)] == [True] * 30 + [False] * 4
    assert turns.free == 0
    assert turns.try_begin(B)
    assert not turns.try_begin(B)
    assert turns.try_begin(C)
    assert not turns.try_begin(FunctionRef("d"))


async def test_a_learned_limit_holds_one_function_and_not_the_others() -> None:
    concurrency = Concurrency(8)
    turns = Turns(8, concurrency)
    concurrency.too_many(A, 4, began=0.0, now=asyncio.get_running_loop().time(), retry_after_s=None)
    assert [turns.try_begin(A) for _ in range(3)] == [True, True, False]
    assert turns.limited(A)
    assert turns.try_begin(B)


async def test_a_call_cancelled_while_it_waits_takes_nobodys_turn() -> None:
    turns = Turns(1, Concurrency(1))
    assert turns.try_begin(A)
    first, second = await waiting(turns, B, 2)
    first.cancel()
    turns.end(A)  # before the cancelled task has run
    await asyncio.wait([first, second], timeout=5)
    assert first.cancelled()
    assert second.done()
    turns.end(B)
    assert turns.try_begin(C)


async def test_a_call_cancelled_as_its_turn_comes_gives_it_back() -> None:
    turns = Turns(1, Concurrency(1))
    assert turns.try_begin(A)
    (call,) = await waiting(turns, B, 1)
    turns.end(A)
    call.cancel()
    await asyncio.wait([call])
    assert turns.free == 1


async def test_who_waits_when_the_worker_stops_hears_it() -> None:
    turns = Turns(1, Concurrency(1))
    assert turns.try_begin(A)
    (call,) = await waiting(turns, B, 1)
    turns.stop()
    with pytest.raises(Stopped):
        await call
    with pytest.raises(Stopped):
        await turns.begin(A)


async def test_shares_count_what_runs_and_what_waits() -> None:
    turns = Turns(2, Concurrency(2))
    assert turns.try_begin(A)
    assert turns.try_begin(B)
    tasks = await waiting(turns, A, 2)
    assert turns.heaviest() == [(A, 0.75), (B, 0.25)]
    turns.stop()
    await asyncio.wait(tasks)
