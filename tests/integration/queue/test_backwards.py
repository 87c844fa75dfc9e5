"""Reading a stream from its newest end."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from holdfast.queue.backwards import BATCH, Backwards, Budget
from holdfast.queue.connection import connect
from holdfast.queue.publisher import Publisher
from holdfast.queue.topology import stream_of
from tests.support.nats import NatsServer
from tests.support.queues import QUEUE, Queue

STREAM = stream_of(QUEUE)
PLENTY = 10**9


@pytest.fixture(name="queue")
async def _queue(server: NatsServer) -> AsyncIterator[Queue]:
    async with connect(server.settings(), name="test") as connection:
        made = Queue(server, connection)
        await made.ensure()
        yield made


async def everything(messages: Backwards) -> list[int]:
    found = []
    while await messages.head() is not None:
        found.append(messages.take().sequence)
    return found


def backwards(queue: Queue, newest: int, pattern: str = ">", budget: Budget | None = None) -> Backwards:
    return Backwards(queue.connection, STREAM, pattern, newest, budget or Budget(PLENTY, PLENTY))


async def test_all_messages_come_newest_first_whatever_the_number(queue: Queue) -> None:
    sequences = await queue.put(*(b"%d" % number for number in range(3 * BATCH + 5)))
    assert await everything(backwards(queue, sequences[-1])) == sequences[::-1]
    assert await everything(backwards(queue, sequences[9])) == sequences[9::-1]
    assert await everything(backwards(queue, 0)) == []


async def test_gaps_are_passed_over_in_few_questions(queue: Queue) -> None:
    (first,) = await queue.put(b"first")
    (later,) = await queue.put(b"later")
    publisher = Publisher(queue.connection, 10)
    await queue.put(*(b"gone" for _ in range(40 * BATCH)))
    subject = f"{QUEUE}.call.ns.other.{uuid.uuid4()}".encode()
    last = await publisher.confirm(subject, b"NATS/1.0\r\n\r\n", b"last")
    await queue.api(f"STREAM.PURGE.{STREAM}", filter=f"{QUEUE}.call.ns.f.*", keep=0, seq=last)
    assert await queue.left() == 1
    again = await queue.put(b"again")
    budget = Budget(40, PLENTY)
    assert await everything(backwards(queue, again[-1], budget=budget)) == [again[-1], last]
    assert not budget.is_spent
    assert await everything(backwards(queue, again[-1], f"{QUEUE}.*.ns.other.>")) == [last]
    assert first < later < last


async def test_who_has_spent_the_budget_goes_on_where_it_was(queue: Queue) -> None:
    sequences = await queue.put(*(b"%d" % number for number in range(5 * BATCH)))
    found: list[int] = []
    unread, turns = sequences[-1], 0
    while unread:
        messages = backwards(queue, unread, budget=Budget(BATCH, PLENTY))
        found += await everything(messages)
        unread, turns = messages.unread, turns + 1
    assert found == sequences[::-1]
    assert turns >= 5


@pytest.mark.parametrize("size", [1, 1000])
async def test_large_messages_spend_the_budget_sooner(queue: Queue, size: int) -> None:
    sequences = await queue.put(*(b"x" * size for _ in range(2 * BATCH)))
    found = await everything(backwards(queue, sequences[-1], budget=Budget(PLENTY, 10_000)))
    assert len(found) == (2 * BATCH if size == 1 else BATCH)


async def test_what_was_looked_at_and_not_taken_is_unread(queue: Queue) -> None:
    sequences = await queue.put(b"1", b"2", b"3")
    messages = backwards(queue, sequences[-1])
    assert await messages.head() is not None
    messages.take()
    assert messages.unread == sequences[1]
    assert [await messages.head() is not None, messages.take().sequence] == [True, sequences[1]]
