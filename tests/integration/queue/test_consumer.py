from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from holdfast.queue import consumer as consumer_module
from holdfast.queue import held_ack, wire
from holdfast.queue.connection import connect
from holdfast.queue.consumer import Consumer, Delivery, Stopped, consume
from holdfast.queue.topology import DURABLE, stream_of
from holdfast.queue.wire import Msg
from tests.support.nats import NatsServer, within
from tests.support.queues import QUEUE, Queue, consuming, nothing_comes


@pytest.fixture
async def queue(server: NatsServer) -> AsyncIterator[Queue]:
    async with connect(server.settings(), name="test") as connection:
        queue = Queue(server, connection)
        await queue.ensure()
        yield queue


@pytest.fixture
async def patient(server: NatsServer) -> AsyncIterator[Queue]:
    """A queue with an `ack_wait` so long that half of it passes on no machine: what comes sooner was handed back."""
    async with connect(server.settings(), name="test") as connection:
        queue = Queue(server, connection, ack_wait_s=30)
        await queue.ensure()
        yield queue


async def test_a_message_is_taken_with_its_bytes_and_gone_when_acknowledged(queue: Queue) -> None:
    [sequence] = await queue.put(bytes(range(256)))
    async with consuming(queue) as consumer:
        delivery = await within(5, consumer.next())
        assert delivery.payload == bytes(range(256))
        assert delivery.subject.startswith(b"work.call.ns.f.")
        assert delivery.headers.startswith(b"NATS/1.0\r\nNats-Msg-Id: ")
        assert (delivery.sequence, delivery.delivered) == (sequence, 1)
        assert consumer.inflight == 1
        delivery.ack()
        assert consumer.inflight == 0
    await queue.until_left(0)


async def test_every_message_is_taken_once_in_order_through_many_slots(queue: Queue) -> None:
    bodies = [b"%d" % number for number in range(1000)]
    await queue.put(*bodies)
    seen: list[bytes] = []
    all_seen = asyncio.Event()

    async def slot(consumer: Consumer) -> None:
        while True:
            try:
                delivery = await consumer.next()
            except Stopped:
                return
            seen.append(delivery.payload)
            delivery.ack()
            consumer.free()
            if len(seen) == len(bodies):
                all_seen.set()

    async with consuming(queue, 16) as consumer, asyncio.TaskGroup() as slots:
        for _ in range(16):
            slots.create_task(slot(consumer))
        await within(20, all_seen.wait())
        consumer.stop()
    assert sorted(seen, key=int) == bodies
    assert seen[:16] == bodies[:16]
    await queue.until_left(0)


async def test_a_consumer_never_holds_more_than_its_capacity(queue: Queue) -> None:
    await queue.put(*[b"x"] * 20)
    async with consuming(queue, 3) as consumer:
        held = [await within(5, consumer.next()) for _ in range(3)]
        await nothing_comes(consumer, 0.2)
        assert (await queue.consumer())["num_ack_pending"] == 3
        held[0].ack()
        await nothing_comes(consumer, 0.2)  # acknowledged is not free: the slot may still be busy
        consumer.free()
        assert (await within(5, consumer.next())).sequence == 4


async def test_free_slots_are_asked_for_even_when_no_further_slot_becomes_free(queue: Queue) -> None:
    async with consuming(queue, 8) as consumer:
        await queue.put(*[b"x"] * 8)
        first = [await within(5, consumer.next()) for _ in range(8)]
        first[0].ack()
        consumer.free()  # one of eight: below the quarter, nothing is asked
        await queue.put(b"y")
        assert (await within(5, consumer.next())).payload == b"y"


LONG = held_ack.DEEP + 10


async def test_a_long_queue_is_never_without_a_call_that_is_not_acknowledged(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_ack, "LAG_S", 3600.0)
    await queue.put(*[b"x"] * LONG)
    async with consuming(queue, 2) as consumer:
        for delivery in [await within(5, consumer.next()) for _ in range(2)]:
            delivery.ack()
        await queue.until_left(LONG - 1)
        assert (await queue.consumer())["num_ack_pending"] == 1
        consumer.free()
        (await within(5, consumer.next())).ack()
        await queue.until_left(LONG - 2)
        assert (await queue.consumer())["num_ack_pending"] == 1
    await queue.until_left(LONG - 3)


async def test_the_last_acknowledgement_of_a_long_queue_comes_after_a_moment_if_no_other_does(queue: Queue) -> None:
    await queue.put(*[b"x"] * LONG)
    async with consuming(queue, 2) as consumer:
        for delivery in [await within(5, consumer.next()) for _ in range(2)]:
            delivery.ack()
        await queue.until_left(LONG - 2)


async def test_an_acknowledgement_that_is_held_back_survives_the_loss_of_its_connection(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_ack, "LAG_S", 3600.0)
    await queue.put(*[b"x"] * LONG)
    async with consuming(queue) as consumer:
        (await within(5, consumer.next())).ack()
        await queue.server.restart()
        consumer.free()
        async with connect(queue.server.settings(), name="after") as connection:
            await Queue(queue.server, connection).until_left(LONG - 1)


async def test_two_consumers_share_the_work(queue: Queue) -> None:
    async with consuming(queue) as one, consuming(queue) as two:
        await queue.put(b"a", b"b")
        deliveries = await within(5, asyncio.gather(one.next(), two.next()))
        assert {delivery.payload for delivery in deliveries} == {b"a", b"b"}


async def test_a_call_that_runs_longer_than_ack_wait_is_not_delivered_again(queue: Queue) -> None:
    await queue.put(b"long")
    async with consuming(queue) as one, consuming(queue) as other:
        holder = asyncio.create_task(one.next()), asyncio.create_task(other.next())
        done, waiting = await asyncio.wait(holder, return_when=asyncio.FIRST_COMPLETED)
        delivery = done.pop().result()
        await asyncio.wait(waiting, timeout=2.5 * queue.ack_wait_s)
        assert not any(task.done() for task in waiting)
        delivery.ack()
        for task in waiting:
            task.cancel()
    await queue.until_left(0)


async def test_the_calls_of_a_dead_worker_come_back_after_ack_wait(queue: Queue) -> None:
    await queue.put(b"x")
    async with AsyncExitStack() as worker:
        connection = await worker.enter_async_context(connect(queue.server.settings(), name="dying"))
        dying = await worker.enter_async_context(
            consume(connection, stream=stream_of(QUEUE), capacity=1, ack_wait_s=queue.ack_wait_s, ensure=queue.ensure)
        )
        await within(5, dying.next())
        connection._keeper.cancel()  # it does not come back
        connection._link.abort("killed")
        async with consuming(queue) as other:
            delivery = await within(5, other.next())
            assert delivery.delivered == 2
            delivery.ack()


async def test_what_is_handed_back_is_delivered_again_at_once(patient: Queue) -> None:
    await patient.put(b"x")
    async with consuming(patient) as consumer:
        (await within(5, consumer.next())).nak()
        consumer.free()
        again = await within(patient.ack_wait_s / 2, consumer.next())
        assert again.delivered == 2
        again.ack()


async def test_what_can_never_run_leaves_the_queue(queue: Queue) -> None:
    await queue.put(b"poison")
    async with consuming(queue) as consumer:
        (await within(5, consumer.next())).term("cannot be read")
    await queue.until_left(0)


async def test_a_second_settlement_does_nothing(queue: Queue) -> None:
    await queue.put(b"x")
    async with consuming(queue) as consumer:
        delivery = await within(5, consumer.next())
        delivery.ack()
        delivery.nak()
        delivery.term("no")
    await queue.until_left(0)


async def test_a_stopped_consumer_takes_nothing_more_and_what_runs_can_still_end(queue: Queue) -> None:
    await queue.put(b"running")
    async with consuming(queue, 2) as consumer:
        running = await within(5, consumer.next())
        waiting = asyncio.create_task(consumer.next())
        await asyncio.sleep(0)
        consumer.stop()
        with pytest.raises(Stopped):
            await within(1, waiting)
        with pytest.raises(Stopped):
            await consumer.next()
        await consumer._connection.flush()  # the server has heard that it stopped
        await queue.put(b"for others")
        async with consuming(queue) as other:
            given = await within(5, other.next())
            # To nobody before: the stopped consumer's pull did not swallow it.
            assert (given.payload, given.delivered) == (b"for others", 1)
            await asyncio.sleep(1.5 * queue.ack_wait_s)  # its lease is kept although it is stopping
            running.ack()
    await queue.until_left(1)


async def test_what_arrived_and_did_not_start_is_handed_back_by_stop(patient: Queue) -> None:
    await patient.put(b"a", b"b")
    async with consuming(patient, 2) as consumer, consuming(patient, 2) as other:
        while consumer.inflight + other.inflight < 2:
            await patient.connection.flush()
        consumer.stop()
        other_has = {(await within(patient.ack_wait_s / 2, other.next())).payload for _ in range(2)}
        assert other_has == {b"a", b"b"}


async def test_messages_that_race_with_stop_are_all_handed_back(patient: Queue) -> None:
    for _ in range(10):
        async with consuming(patient, 8) as consumer:
            puts = asyncio.create_task(patient.put(*[b"x"] * 8))
            await within(5, consumer.next())
            consumer.stop()
            await puts
    async with consuming(patient, 100) as other:
        for _ in range(80):
            (await within(patient.ack_wait_s / 2, other.next())).ack()
            other.free()
    await patient.until_left(0)


async def test_leaving_the_context_hands_back_what_nobody_settled(patient: Queue) -> None:
    await patient.put(b"x")
    async with consuming(patient) as consumer:
        await within(5, consumer.next())
    async with consuming(patient) as other:
        await within(patient.ack_wait_s / 2, other.next())


async def test_a_slot_cancelled_while_it_waits_leaves_no_trace(queue: Queue) -> None:
    async with consuming(queue) as consumer:
        for _ in range(5):
            waiting = asyncio.create_task(consumer.next())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        await queue.put(b"x")
        assert (await within(5, consumer.next())).payload == b"x"


async def test_a_slot_cancelled_as_its_delivery_arrives_passes_it_on(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with consuming(queue) as consumer:
        waiting = asyncio.create_task(consumer.next())
        give = consumer._handout.give

        def hand_out_and_cancel(delivery: Delivery) -> None:
            give(delivery)
            waiting.cancel()  # in the turn of the delivery, before the slot wakes

        monkeypatch.setattr(consumer._handout, "give", hand_out_and_cancel)
        await queue.put(b"x")
        await asyncio.wait([waiting], timeout=5)
        delivery = await within(5, consumer.next())
        assert (delivery.payload, delivery.delivered) == (b"x", 1)


async def test_a_pull_that_expires_is_renewed(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "EXPIRES_S", 0.4)
    monkeypatch.setattr(consumer_module, "HEARTBEAT_S", 0.1)
    async with consuming(queue, 4) as consumer:
        await nothing_comes(consumer, 1.5)
        assert consumer._asked == 4
        await queue.put(*[b"x"] * 4)
        for _ in range(4):
            (await within(5, consumer.next())).ack()


async def test_a_pull_that_was_lost_is_noticed_by_its_missing_heartbeats(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "HEARTBEAT_S", 0.1)
    async with consuming(queue) as consumer:
        while not consumer.ready:
            await asyncio.sleep(0)
        consumer._connection.send(wire.unsub(consumer._sid))  # behind its back: the server drops the pull
        await consumer._connection.flush()
        await queue.put(b"x")
        assert (await within(5, consumer.next())).payload == b"x"


async def test_a_worker_that_was_held_still_does_not_take_its_pulls_for_lost(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "HEARTBEAT_S", 0.1)
    async with consuming(queue) as consumer:
        while not consumer.ready:
            await queue.connection.flush()
        inbox = consumer._inbox
        time.sleep(1)  # the whole process, as SIGSTOP does; heartbeats wait in the socket meanwhile
        await asyncio.sleep(0.15)
        assert consumer._inbox == inbox


async def test_more_consumers_than_pulls_may_stand_is_survived(queue: Queue) -> None:
    config = {**(await queue.consumer())["config"], "max_waiting": 1}
    await queue.delete_consumer()  # an existing one keeps its number
    await queue.api(f"CONSUMER.CREATE.{stream_of(QUEUE)}.{DURABLE}", stream_name=stream_of(QUEUE), config=config)
    async with consuming(queue) as one, consuming(queue) as two:
        takers = [asyncio.create_task(one.next()), asyncio.create_task(two.next())]
        await queue.put(b"a", b"b")
        for delivery in await within(40, asyncio.gather(*takers)):
            delivery.ack()


async def test_a_deleted_consumer_is_made_again_and_the_work_goes_on(queue: Queue) -> None:
    async with consuming(queue) as consumer:
        await queue.put(b"before")
        (await within(5, consumer.next())).ack()
        consumer.free()
        ensured = queue.ensured
        await queue.until_pull_stands()
        await queue.delete_consumer()
        await queue.put(b"after")
        assert (await within(10, consumer.next())).payload == b"after"
        assert queue.ensured > ensured


async def test_a_deleted_stream_is_made_again_and_the_work_goes_on(queue: Queue) -> None:
    async with consuming(queue) as consumer:
        await queue.put(b"before")
        running = await within(5, consumer.next())
        await queue.delete_stream()
        # The publisher insists until the consumer has made the stream again.
        consumer.free()
        [sequence] = await queue.put(b"after")
        assert sequence == running.sequence
        after = await within(10, consumer.next())
        assert after.payload == b"after"
        # The same sequence as the call that still runs, but another message: this must not acknowledge it.
        running.ack()
        await consumer._connection.flush()
        assert await queue.left() == 1
        after.ack()
    await queue.until_left(0)


async def test_a_message_of_a_new_stream_is_not_taken_for_one_that_has_ended(queue: Queue) -> None:
    async with consuming(queue) as consumer:
        for body in (b"old", b"new"):
            [sequence] = await queue.put(body)
            assert sequence == 1
            delivery = await within(10, consumer.next())
            assert delivery.payload == body
            delivery.ack()
            consumer.free()
            await queue.until_pull_stands()
            await queue.delete_stream()


async def test_an_acknowledged_message_delivered_again_is_acknowledged_and_not_run(queue: Queue) -> None:
    await queue.put(b"x")
    async with consuming(queue) as consumer:
        delivery = await within(5, consumer.next())
        lost = delivery.reply
        delivery.reply = b"nobody.listens.here"  # its acknowledgement gets lost
        delivery.ack()
        consumer.free()
        await nothing_comes(consumer, 2 * queue.ack_wait_s)
        assert lost.startswith(b"$JS.ACK.")
        await queue.until_left(0)


async def test_a_running_call_delivered_again_does_not_start_again_and_can_be_acknowledged(queue: Queue) -> None:
    await queue.put(b"x")
    async with consuming(queue, 2) as consumer:
        delivery = await within(5, consumer.next())
        # Somebody takes away the lease: JetStream delivers again at once.
        consumer._connection.send(wire.pub(delivery.reply, b"-NAK"))
        await nothing_comes(consumer, 0.5)
        assert delivery.delivered == 2
        delivery.ack()
    await queue.until_left(0)


async def answers_to_pulls(queue: Queue) -> asyncio.Queue[Msg]:
    """A look at everything that is sent to the acknowledgement subjects."""
    seen: asyncio.Queue[Msg] = asyncio.Queue()
    queue.connection.subscribe(b"$JS.ACK.>", seen.put_nowait)
    await queue.connection.flush()
    return seen


async def test_a_lost_worker_connection_does_not_leave_pulls_that_swallow_messages(queue: Queue) -> None:
    async with consuming(queue, 4) as consumer:
        taker = asyncio.create_task(consumer.next())
        for _ in range(3):
            while not consumer.ready:
                await asyncio.sleep(0.001)
            consumer._connection._link.abort("cable pulled")
            await asyncio.sleep(0)
        while not consumer.ready:
            await asyncio.sleep(0.001)
        await queue.put(*[b"x"] * 20)
        held = [await within(5, taker)] + [await within(5, consumer.next()) for _ in range(3)]
        await nothing_comes(consumer, 0.2)
        assert (await queue.consumer())["num_ack_pending"] == 4
        assert {delivery.delivered for delivery in held} == {1}


async def test_acks_written_in_the_moment_of_a_lost_connection_are_sent_again(patient: Queue) -> None:
    await patient.put(*[b"x"] * 50)
    async with consuming(patient, 50) as consumer:
        deliveries = [await within(5, consumer.next()) for _ in range(50)]
        for delivery in deliveries:
            delivery.ack()
        consumer._connection._link.abort("cable pulled")  # before the tick in which they are written
        seen = await answers_to_pulls(patient)
        for _ in range(50):
            assert (await within(patient.ack_wait_s / 2, seen.get())).payload == b"+ACK"
        await patient.connection.flush()
        await patient.until_left(0)


async def test_acks_given_while_the_connection_is_away_are_sent_when_it_is_back(queue: Queue) -> None:
    await queue.put(b"x", b"y")
    async with consuming(queue, 2) as consumer:
        one, two = [await within(5, consumer.next()) for _ in range(2)]
        consumer._connection._link.abort("cable pulled")
        while consumer._connection.connected:
            await asyncio.sleep(0)
        one.ack()
        two.nak()
        consumer.free()
        consumer.free()
        again = await within(5, consumer.next())
        assert (again.payload, again.delivered) == (b"y", 2)
        await queue.until_left(1)


async def test_a_stopping_consumer_acknowledges_after_a_reconnect_too(queue: Queue) -> None:
    await queue.put(b"x")
    async with consuming(queue) as consumer:
        delivery = await within(5, consumer.next())
        consumer.stop()
        consumer._connection._link.abort("cable pulled")
        while consumer._connection.connected:
            await asyncio.sleep(0)
        delivery.ack()
    await queue.until_left(0)
