"""Calls with a key, stored over a real server: one of any number that come is the one that is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from holdfast.errors import BadRequest
from holdfast.function import FunctionRef
from holdfast.gateway.idempotency import Idempotency, Once, id_of_key_in_0_1, identified
from holdfast.gateway.large_body import LargeBodies
from holdfast.gateway.unstored import Unstored
from holdfast.invocation import CallId, Invocation, is_issued_id
from holdfast.owed import NO_SLOT
from holdfast.queue.bodies import Bodies
from holdfast.queue.chains import Chains
from holdfast.queue.connection import connect
from holdfast.queue.kept_streams import kept_streams
from holdfast.queue.key_secret import STREAM, KeySecret
from holdfast.queue.message import to_publish
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.queue.records import Records, Stored
from holdfast.queue.topology import ensure_queue, stream_of
from tests.support.nats import NatsServer
from tests.support.queues import QUEUE, Queue

CALL = Invocation(CallId("none yet"), "none yet", FunctionRef("f", "ns"), 1, None, b"POST / HTTP/1.1\r\n\r\n")
OTHER = CALL._replace(request=b"POST / HTTP/1.1\r\n\r\nother", accepted_at_ns=2)
KEY = "order-1001"


@pytest.fixture
async def queue(server: NatsServer) -> AsyncIterator[Queue]:
    settings = server.settings()
    async with connect(settings, name="test") as connection, kept_streams(settings):
        await ensure_queue(settings, QUEUE)
        yield Queue(server, connection)


class Gateway(Idempotency):
    """As one gateway has it."""

    def __init__(self, queue: Queue, tasks: asyncio.TaskGroup) -> None:
        connection = queue.connection
        publisher = Publisher(connection, 10)
        self.records = Records(connection, publisher)
        bodies = Bodies(connection, publisher)
        super().__init__(
            connection,
            publisher,
            self.records,
            secret=KeySecret(connection, publisher),
            chains=Chains(connection, publisher, 3600),
            unstored=Unstored(connection, self.records, 5),
            large=LargeBodies(bodies, inline_bytes=1, max_body_bytes=1, most_at_once=1, tasks=tasks),
        )

    async def end(self, call_id: CallId, status: CallStatus) -> None:
        """Write the record that a worker writes when a call has ended."""
        stored = await self.records.read(call_id, surely=True)
        assert isinstance(stored, Stored)
        await self.records.put(stored.record._replace(status=status, finished_at_ns=3), b"", stored.sequence)


@pytest.fixture
async def gateway(queue: Queue) -> AsyncIterator[Gateway]:
    async with asyncio.TaskGroup() as tasks:
        yield Gateway(queue, tasks)


async def test_of_calls_that_come_at_once_to_several_gateways_one_is_accepted(queue: Queue) -> None:
    async with asyncio.TaskGroup() as tasks:
        gateways = [Gateway(queue, tasks) for _ in range(5)]
        stored = await asyncio.gather(*(gateway.store(CALL, KEY, QUEUE, None) for gateway in gateways * 4))
    assert [one.known for one in stored].count(False) == 1
    assert {one.accepted_at_ns for one in stored} == {1}
    (call_id,) = {one.call_id for one in stored}
    assert is_issued_id(call_id)
    assert await queue.left() == 1


async def test_a_call_that_was_run_and_has_no_record_of_that_yet_is_known(queue: Queue, gateway: Gateway) -> None:
    assert not (await gateway.store(CALL, KEY, QUEUE, None)).known
    await queue.api(f"STREAM.PURGE.{stream_of(QUEUE)}")  # a worker took it away
    assert (await gateway.store(CALL, KEY, QUEUE, None)).known
    assert await queue.left() == 0


async def test_a_key_means_the_same_after_a_restart_and_another_call_when_nats_lost_its_secret(
    queue: Queue, gateway: Gateway
) -> None:
    first = await gateway.store(CALL, KEY, QUEUE, None)
    await queue.server.restart()
    async with asyncio.TaskGroup() as tasks, connect(queue.server.settings(), name="next") as connection:
        later = Queue(queue.server, connection)
        again = await Gateway(later, tasks).store(CALL, KEY, QUEUE, None)
        assert (again.call_id, again.known) == (first.call_id, True)
        await later.api(f"STREAM.PURGE.{STREAM}")
        other = await Gateway(later, tasks).store(CALL, KEY, QUEUE, None)
        assert (other.call_id == first.call_id, other.known) == (False, False)


@pytest.mark.parametrize("status", [CallStatus.FAILED, CallStatus.EXPIRED, CallStatus.CANCELLED])
async def test_a_key_whose_call_ended_otherwise_than_well_begins_anew_each_time(
    gateway: Gateway, status: CallStatus
) -> None:
    ids: list[CallId] = []
    for _ in range(3):
        # Whoever sends other data under the key begins anew as well: what failed counts no more.
        stored = await asyncio.gather(*(gateway.store(OTHER, KEY, QUEUE, None) for _ in range(5)))
        assert [one.known for one in stored].count(False) == 1
        assert {one.call_id for one in stored}.isdisjoint(ids)
        ids.append(stored[0].call_id)
        with pytest.raises(BadRequest) as caught:
            await gateway.store(CALL, KEY, QUEUE, None)
        assert caught.value.status == 422
        await gateway.end(ids[-1], status)
    last = await gateway.store(CALL, KEY, QUEUE, None)
    await gateway.end(last.call_id, CallStatus.SUCCEEDED)
    assert (await gateway.store(CALL, KEY, QUEUE, None)) == last._replace(known=True, owes=NO_SLOT)


async def test_a_key_whose_earlier_calls_are_forgotten_still_means_its_latest(queue: Queue, gateway: Gateway) -> None:
    for _ in range(3):
        await gateway.end((await gateway.store(CALL, KEY, QUEUE, None)).call_id, CallStatus.FAILED)
    latest = await gateway.store(CALL, KEY, QUEUE, None)
    # What stands before the latest one's record goes, as records do that are old, and even their markers.
    stored = await gateway.records.read(latest.call_id, surely=True)
    assert isinstance(stored, Stored)
    await queue.api("STREAM.PURGE.HOLDFAST_calls", seq=stored.sequence)
    assert (await gateway.store(CALL, KEY, QUEUE, None)) == latest._replace(known=True, owes=NO_SLOT)


async def test_a_key_that_version_0_1_accepted_is_known_unless_its_call_failed(queue: Queue, gateway: Gateway) -> None:
    old = identified(CALL, id_of_key_in_0_1(CALL.function, KEY))
    await gateway.records.put(CallRecord.of(old, QUEUE, CallStatus.WAITING), b"", 0)
    publisher = Publisher(queue.connection, 10)
    await publisher.confirm(*to_publish(QUEUE, old))
    once = await gateway.store(CALL._replace(accepted_at_ns=5), KEY, QUEUE, None)
    assert once == Once(old.call_id, 1, known=True)
    with pytest.raises(BadRequest):
        await gateway.store(OTHER, KEY, QUEUE, None)
    await gateway.end(old.call_id, CallStatus.SUCCEEDED)
    assert (await gateway.store(CALL, KEY, QUEUE, None)).known
    stored = await gateway.records.read(old.call_id)
    assert isinstance(stored, Stored)
    await gateway.records.put(stored.record._replace(status=CallStatus.FAILED), b"", stored.sequence)
    anew = await gateway.store(CALL, KEY, QUEUE, None)
    assert (anew.known, anew.call_id == old.call_id) == (False, False)


async def test_a_stranger_who_brings_the_id_that_0_1_gave_a_key_does_not_spoil_the_key(gateway: Gateway) -> None:
    guessed = id_of_key_in_0_1(CALL.function, KEY)
    strangers = CALL._replace(call_id=guessed, message_id=f"{guessed}-4d0b6c1e-43a4-8b1c-9d5e-2f2f3c0a7b11")
    await gateway.records.put(CallRecord.of(strangers, QUEUE, CallStatus.SUCCEEDED), b"", 0)
    once = await gateway.store(CALL, KEY, QUEUE, None)
    assert (once.known, once.call_id == guessed) == (False, False)
