from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from holdfast.queue.connection import connect
from holdfast.queue.consumer import Consumer, Stopped
from holdfast.queue.embedded import Durability
from tests.support.nats import nats_server, within
from tests.support.queues import Queue, consuming, nothing_comes


@pytest.fixture(params=["disk", "os"])
async def queue(request: pytest.FixtureRequest) -> AsyncIterator[Queue]:
    durability: Durability = request.param
    async with nats_server(durability) as server, connect(server.settings(), name="test") as connection:
        queue = Queue(server, connection)
        await queue.ensure()
        yield queue


async def test_after_a_kill_of_the_server_what_was_acknowledged_is_not_handed_out_again(queue: Queue) -> None:
    await queue.put(*[b"%d" % number for number in range(200)])
    async with consuming(queue, 100) as consumer:
        deliveries = [await within(5, consumer.next()) for _ in range(100)]
        for delivery in deliveries:
            delivery.ack()
        await asyncio.sleep(0)  # they are written; whether the server stores them before it dies is its luck
        await queue.server.restart()
        for _ in range(100):
            consumer.free()
        rest = [await within(10, consumer.next()) for _ in range(100)]
        assert {delivery.payload for delivery in rest}.isdisjoint(delivery.payload for delivery in deliveries)
        for delivery in rest:
            delivery.ack()
            consumer.free()
        await nothing_comes(consumer, 2 * queue.ack_wait_s)
        await queue.until_left(0)


async def test_after_a_kill_of_the_server_what_runs_goes_on_and_is_acknowledged(queue: Queue) -> None:
    await queue.put(b"a", b"b")
    async with consuming(queue, 2) as consumer:
        running = [await within(5, consumer.next()) for _ in range(2)]
        await queue.server.restart()
        await nothing_comes(consumer, 2 * queue.ack_wait_s)  # renewed: nobody gets them a second time
        for delivery in running:
            delivery.ack()
            # The server may have forgotten that it delivered these, and then takes no acknowledgement of them before it
            # has done so again: what is asked for next brings them, and they are acknowledged without being handed out.
            consumer.free()
        await queue.until_left(0)
        await nothing_comes(consumer, queue.ack_wait_s)


async def test_what_ends_while_the_server_is_dead_is_acknowledged_when_it_is_back(queue: Queue) -> None:
    await queue.put(b"a", b"b")
    async with consuming(queue, 2) as consumer:
        running = [await within(5, consumer.next()) for _ in range(2)]
        queue.server.kill()
        with pytest.raises(Exception, match=r"lost|closed"):
            await consumer._connection.flush()
        for delivery in running:
            delivery.ack()
            consumer.free()
        await queue.server.start()
        await nothing_comes(consumer, 2 * queue.ack_wait_s)
        await queue.until_left(0)


async def test_two_workers_through_three_kills_run_everything_and_no_acknowledged_call_again(queue: Queue) -> None:
    total = 1500
    runs: Counter[bytes] = Counter()
    settled: set[bytes] = set()
    again: list[bytes] = []
    progress = asyncio.Condition()

    async def slot(consumer: Consumer) -> None:
        while True:
            try:
                delivery = await consumer.next()
            except Stopped:
                return
            runs[delivery.payload] += 1
            # What the server has forgotten is handed out again, and said to be doubtful: records tell then.
            if delivery.payload in settled and not delivery.doubtful:
                again.append(delivery.payload)
            await asyncio.sleep(0.005)
            delivery.ack()
            settled.add(delivery.payload)
            consumer.free()
            async with progress:
                progress.notify_all()

    async def until_settled(count: int) -> None:
        async with progress:
            await within(60, progress.wait_for(lambda: len(settled) >= count))

    await queue.put(*[b"%d" % number for number in range(total)])
    async with AsyncExitStack() as workers:
        consumers = [await workers.enter_async_context(consuming(queue, 20)) for _ in range(2)]
        slots = await workers.enter_async_context(asyncio.TaskGroup())
        for consumer in consumers:
            for _ in range(20):
                slots.create_task(slot(consumer))
        for count in (200, 600, 1000):
            await until_settled(count)
            await queue.server.restart()
        await until_settled(total)
        for consumer in consumers:
            consumer.stop()
    assert len(runs) == total
    assert again == []
    async with connect(queue.server.settings(), name="after") as connection:
        await Queue(queue.server, connection).until_left(0)


async def test_when_server_and_worker_died_together_what_may_have_ended_is_said_to_be_doubtful(queue: Queue) -> None:
    await queue.put(*[b"%d" % number for number in range(300)])
    ended: set[bytes] = set()
    async with consuming(queue, 100) as consumer:
        for _ in range(100):
            delivery = await within(5, consumer.next())
            ended.add(delivery.payload)
            delivery.ack()
        queue.server.kill()
    await queue.server.start()
    async with connect(queue.server.settings(), name="after") as connection, consuming(queue, 100) as consumer:
        left = await Queue(queue.server, connection).left()
        for _ in range(left):
            delivery = await within(10, consumer.next())
            assert delivery.doubtful or delivery.payload not in ended
            delivery.ack()
            consumer.free()
        await Queue(queue.server, connection).until_left(0)


async def test_a_message_that_came_after_the_worker_is_not_doubtful(queue: Queue) -> None:
    await queue.put(b"before")
    async with consuming(queue, 1) as consumer:
        (await within(5, consumer.next())).ack()
    async with consuming(queue, 1) as consumer:
        while not consumer.ready:
            await queue.connection.flush()
        await queue.put(b"after")
        assert not (await within(5, consumer.next())).doubtful
