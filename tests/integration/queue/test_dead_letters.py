"""Dead letters over a real server: of all that want one at the same moment one gets it, and none is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from holdfast.errors import QueueRefused
from holdfast.function import FunctionRef
from holdfast.invocation import CallId, Invocation
from holdfast.owed import OWED
from holdfast.queue.connection import connect
from holdfast.queue.dead_letter import DeadLetter, to_publish
from holdfast.queue.dead_letters import DeadLetters, Kept
from holdfast.queue.kept_streams import kept_streams
from holdfast.queue.publisher import Publisher
from holdfast.queue.records import Records
from holdfast.queue.topology import ensure_queue
from tests.support.nats import NatsServer
from tests.support.queues import QUEUE, Queue

CALL = Invocation(CallId("dead"), "dead", FunctionRef("f", "ns"), 1, None, b"POST / HTTP/1.1\r\n\r\n")
GATEWAYS = 8


@pytest.fixture
async def queue(server: NatsServer) -> AsyncIterator[Queue]:
    settings = server.settings()
    async with connect(settings, name="test") as connection, kept_streams(settings):
        await ensure_queue(settings, QUEUE)
        await Publisher(connection, 10).confirm(*to_publish(DeadLetter(CALL, QUEUE, 2, "why", None)))
        yield Queue(server, connection)


def letters_of(queue: Queue) -> DeadLetters:
    """As one gateway has them."""
    publisher = Publisher(queue.connection, 2)
    return DeadLetters(queue.connection, publisher, Records(queue.connection, publisher))


async def only(letters: DeadLetters) -> Kept:
    (kept,) = [kept async for kept in letters.each()]
    return kept


async def test_of_all_that_replay_or_drop_a_letter_at_the_same_moment_one_does(queue: Queue) -> None:
    gateways = [letters_of(queue) for _ in range(GATEWAYS)]
    kept = await only(gateways[0])
    replays = [letters.replay(kept, QUEUE) for letters in gateways]
    drops = [letters.drop(kept) for letters in gateways]
    done = await asyncio.gather(*replays, *drops)
    assert sum(done) == 1
    assert await queue.left() == sum(done[:GATEWAYS])
    assert [kept async for kept in gateways[0].each()] == []
    assert not await gateways[0].replay(kept, QUEUE)


async def test_a_letter_that_is_being_replayed_is_nobody_elses(queue: Queue) -> None:
    letters = letters_of(queue)
    with pytest.raises(QueueRefused):
        await asyncio.gather(letters.replay(await only(letters), "no-such-queue"), _look_meanwhile(letters))


async def _look_meanwhile(letters: DeadLetters) -> None:
    async with asyncio.timeout(10):
        while not (kept := await only(letters)).in_hand:
            await asyncio.sleep(0.01)
    assert not await letters.replay(kept, QUEUE)
    assert not await letters.drop(kept)


async def test_a_replay_that_its_queue_refuses_leaves_a_letter_that_can_be_replayed(queue: Queue) -> None:
    letters = letters_of(queue)
    with pytest.raises(QueueRefused):
        await letters.replay(await only(letters), "no-such-queue")
    assert OWED.doubtful == set()
    kept = await only(letters)
    assert not kept.in_hand
    assert await letters.replay(kept, QUEUE)
    assert await queue.left() == 1
    assert [kept async for kept in letters.each()] == []
