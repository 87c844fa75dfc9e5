"""Records that are written together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from holdfast.function import FunctionRef
from holdfast.invocation import Invocation, new_call_id
from holdfast.queue.api import ask
from holdfast.queue.connection import Connection, connect
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.queue.records import STREAM, Records, Stored, stream_config
from holdfast.queue.topology import ensure_streams
from tests.support.nats import NatsServer

CONFIG = stream_config(replicas=1, ttl_s=3600, max_bytes=2**30)


def record() -> CallRecord:
    call_id = new_call_id()
    invocation = Invocation(call_id, call_id, FunctionRef("f"), 1, None, b"POST / HTTP/1.1\r\n\r\n")
    return CallRecord.of(invocation, "q", CallStatus.CANCELLED)


@pytest.fixture
async def connection(server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(server.settings(), name="test") as connected:
        yield connected


async def test_records_of_many_calls_are_written_together(server: NatsServer, connection: Connection) -> None:
    await ensure_streams(server.settings(), CONFIG)
    records = Records(connection, Publisher(connection, 10))
    written = [record() for _ in range(300)]
    assert await records.put_first(written)
    assert await records.put_first([record()])
    for one in (written[0], written[150], written[-1]):
        stored = await records.read(one.call_id)
        assert isinstance(stored, Stored)
        assert stored.record == one


async def test_when_one_call_has_a_record_none_is_written(server: NatsServer, connection: Connection) -> None:
    await ensure_streams(server.settings(), CONFIG)
    records = Records(connection, Publisher(connection, 10))
    known = record()
    await records.put(known, b"", 0)
    for place in 0, 5, 9:
        together = [record() for _ in range(9)]
        together.insert(place, known)
        assert not await records.put_first(together)
        for one in together:
            assert (await records.read(one.call_id) is None) is (one is not known)


async def test_a_stream_of_an_older_version_takes_batches_from_now_on(
    server: NatsServer, connection: Connection
) -> None:
    await ensure_streams(server.settings(), replace(CONFIG, allow_atomic=False))
    records = Records(connection, Publisher(connection, 10))
    # A gateway that is newer than the stream writes them one by one.
    assert not await records.put_first([record(), record()])
    await ensure_streams(server.settings(), CONFIG)
    assert await records.put_first([record(), record()])
    assert (await ask(connection, f"STREAM.INFO.{STREAM}"))["config"]["max_bytes"] == 2**30
