"""How much is in a queue, and holding it, on a real server."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.errors import QueueRefused
from holdfast.function import FunctionRef
from holdfast.invocation import Invocation, new_call_id
from holdfast.queue.connection import connect
from holdfast.queue.depth import by_function, depth, pause, resume
from holdfast.queue.message import to_publish, to_publish_later
from holdfast.queue.publisher import Publisher
from holdfast.queue.topology import ensure_consumer, ensure_queue
from holdfast.queue.waiting import find, standing_from
from tests.support.nats import NatsServer, within
from tests.support.queues import QUEUE, Queue, consuming, nothing_comes


def call(function: str) -> Invocation:
    return Invocation(
        new_call_id(), str(uuid.uuid4()), FunctionRef(function, "ns"), 1, None, b"POST / HTTP/1.1\r\n\r\n"
    )


@pytest.fixture
async def queue(server: NatsServer) -> AsyncIterator[Queue]:
    async with connect(server.settings(), name="test") as connection:
        await ensure_queue(server.settings(), QUEUE)
        yield Queue(server, connection)


async def put(queue: Queue, *functions: str) -> list[Invocation]:
    publisher = Publisher(queue.connection, 10)
    calls = [call(function) for function in functions]
    await asyncio.gather(*(publisher.confirm(*to_publish(QUEUE, one)) for one in calls))
    return calls


async def test_what_waits_runs_and_is_scheduled_is_told_apart_and_by_function(queue: Queue) -> None:
    empty = await depth(queue.connection, QUEUE)
    assert (empty.waiting, empty.running, empty.scheduled, empty.oldest_age_s) == (0, 0, 0, None)
    await put(queue, *["a"] * 3, *["b"] * 2)
    at = datetime.now(UTC) + timedelta(hours=1)
    await Publisher(queue.connection, 10).confirm(*to_publish_later(QUEUE, call("a"), at))
    async with consuming(queue, capacity=1) as consumer:
        await within(10, consumer.next())
        found = await depth(queue.connection, QUEUE)
        assert (found.waiting, found.running, found.scheduled) == (4, 1, 1)
        assert found.oldest_age_s is not None
        functions = [FunctionRef(name, "ns") for name in ("a", "b", "never")]
        counted = await by_function(queue.connection, QUEUE, functions)
        assert counted.total() == 4
        assert counted[functions[1]] in {1, 2}  # the order in which five confirmations came is not ours
        assert functions[2] not in counted


async def test_the_age_of_the_oldest_call_is_that_of_one_that_can_run(queue: Queue) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    await Publisher(queue.connection, 10).confirm(*to_publish_later(QUEUE, call("a"), at))
    await asyncio.sleep(0.2)
    before = time.monotonic()
    await put(queue, "a")
    age = (await depth(queue.connection, QUEUE)).oldest_age_s
    assert age is not None
    assert age <= time.monotonic() - before


async def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(queue: Queue) -> None:
    async with consuming(queue, capacity=2) as consumer:
        await pause(queue.connection, QUEUE, None)
        (waiting,) = await put(queue, "a")
        await nothing_comes(consumer, 0.3)
        found = await depth(queue.connection, QUEUE)
        assert (found.paused, found.paused_until, found.waiting) == (True, None, 1)
        where = await find(queue.connection, waiting.call_id)
        assert where is not None
        assert where.line is not None
        assert (where.position, where.handed_out, where.line.paused_until is None) == (1, False, False)
        # The pull that stands is served at once, not with the next heartbeat.
        await resume(queue.connection, QUEUE)
        delivery = await within(3, consumer.next())
        delivery.ack()
        assert (await depth(queue.connection, QUEUE)).paused is False


async def test_a_pause_outlives_the_server_and_another_ack_wait_and_ends_when_it_was_said(queue: Queue) -> None:
    await pause(queue.connection, QUEUE, 3600)
    until = (await depth(queue.connection, QUEUE)).paused_until
    assert until is not None
    await ensure_consumer(queue.server.settings(), QUEUE, 33)
    await ensure_queue(queue.server.settings(), QUEUE)
    await queue.server.restart()
    async with connect(queue.server.settings(), name="later") as connection:
        async with asyncio.timeout(20):
            while (found := await depth(connection, QUEUE)).paused_until != until:
                pass
        assert found.paused
        await pause(connection, QUEUE, 0.2)
        async with asyncio.timeout(20):
            while (await depth(connection, QUEUE)).paused:
                pass


async def test_a_queue_that_does_not_exist_is_told_apart_from_an_empty_one(queue: Queue) -> None:
    for look in depth(queue.connection, "nosuch"), pause(queue.connection, "nosuch", None):
        with pytest.raises(QueueRefused) as refused:
            await look
        assert refused.value.code == 404


async def test_messages_are_read_in_batches_from_a_sequence_on(queue: Queue) -> None:
    calls = await put(queue, *["a"] * 5, "b")
    first = await standing_from(queue.connection, QUEUE, 1, f"{QUEUE}.call.ns.a.>", 3)
    rest = await standing_from(queue.connection, QUEUE, first[-1].sequence + 1, f"{QUEUE}.call.ns.a.>", 3)
    assert (len(first), len(rest)) == (3, 2)
    assert {one.subject for one in first + rest} == {f"{QUEUE}.call.ns.a.{one.call_id}" for one in calls[:5]}
    assert await standing_from(queue.connection, QUEUE, 1, f"{QUEUE}.call.ns.never.>", 3) == []
    assert await standing_from(queue.connection, QUEUE, 100, f"{QUEUE}.call.ns.a.>", 3) == []
