"""Taking a call out of its queue leaves the others where they are."""

from __future__ import annotations

import nats

from holdfast.invocation import CallId
from holdfast.queue.connection import connect
from holdfast.queue.topology import DURABLE, ensure_consumer
from holdfast.queue.waiting import find, remove
from tests.support.nats import NatsServer
from tests.support.queues import QUEUE


async def test_a_removed_call_takes_no_other_with_it_that_a_worker_holds(server: NatsServer) -> None:
    """A purge by subject moves the consumer's ack floor past what was handed out before: lost, if the server dies."""
    await ensure_consumer(server.settings(), QUEUE, 60)
    client = await nats.connect(server.url)
    jetstream = client.jetstream()
    for number in range(10):
        await jetstream.publish(f"{QUEUE}.call.openfaas-fn.echo.c{number}", b"")
    workers = await jetstream.pull_subscribe_bind(DURABLE, f"OF_{QUEUE}")
    await workers.fetch(6)
    async with connect(server.settings(), name="test") as connection:
        assert (await remove(connection, QUEUE, CallId("c3"))).messages == 1
        assert (await remove(connection, QUEUE, CallId("c8"))).messages == 1
        assert (await remove(connection, QUEUE, CallId("c8"))).messages == 0
        assert await find(connection, CallId("c8")) is None
    info = await jetstream.consumer_info(f"OF_{QUEUE}", DURABLE)
    assert info.ack_floor is not None
    assert (info.ack_floor.consumer_seq, info.ack_floor.stream_seq) == (0, 0)
    assert info.num_ack_pending == 5
    assert info.num_pending == 3
    await client.close()
