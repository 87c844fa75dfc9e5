"""Calls with a key, stored over a real server: one of any number that come is the one that is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from holdfast.function import FunctionRef
from holdfast.gateway.idempotency import Idempotency
from holdfast.invocation import CallId, Invocation
from holdfast.queue.connection import connect
from holdfast.queue.kept_streams import kept_streams
from holdfast.queue.publisher import Publisher
from holdfast.queue.records import Records
from holdfast.queue.topology import ensure_queue, stream_of
from tests.support.nats import NatsServer
from tests.support.queues import QUEUE, Queue

CALL = Invocation(CallId("key-1"), "key-1-first", FunctionRef("f", "ns"), 1, None, b"POST / HTTP/1.1\r\n\r\n")


@pytest.fixture
async def queue(server: NatsServer) -> AsyncIterator[Queue]:
    settings = server.settings()
    async with connect(settings, name="test") as connection, kept_streams(settings):
        await ensure_queue(settings, QUEUE)
        yield Queue(server, connection)


def idempotency(queue: Queue) -> Idempotency:
    """As one gateway has it."""
    publisher = Publisher(queue.connection, 10)
    return Idempotency(queue.connection, publisher, Records(queue.connection, publisher))


async def test_of_calls_that_come_at_once_to_several_gateways_one_is_accepted(queue: Queue) -> None:
    gateways = [idempotency(queue) for _ in range(5)]
    stored = await asyncio.gather(*(gateway.store(CALL, QUEUE, None) for gateway in gateways * 4))
    assert [one.known for one in stored].count(False) == 1
    assert {one.accepted_at_ns for one in stored} == {1}
    assert await queue.left() == 1


async def test_a_call_that_was_run_and_has_no_record_of_that_yet_is_known(queue: Queue) -> None:
    assert not (await idempotency(queue).store(CALL, QUEUE, None)).known
    await queue.api(f"STREAM.PURGE.{stream_of(QUEUE)}")  # a worker took it away
    assert (await idempotency(queue).store(CALL, QUEUE, None)).known
    assert await queue.left() == 0
