"""Records that make room for others, in a real stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from holdfast.function import FunctionRef
from holdfast.invocation import CallId, Invocation, new_call_id
from holdfast.queue.api import ask
from holdfast.queue.connection import Connection, connect
from holdfast.queue.kept_streams import kept_streams
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.queue.record_sweep import RecordSweep, stream_limit
from holdfast.queue.records import STREAM, AgedOut, Conflict, Records, Stored, stream_config
from holdfast.queue.topology import ensure_streams
from tests.support.nats import NatsServer, nats_server

ROOM = 1024 * 1024
BODY = b"x" * 10_000
CONFIG = stream_config(replicas=1, ttl_s=3600, max_bytes=stream_limit(ROOM))


@pytest.fixture
async def connection(server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(server.settings(), name="test") as connected:
        yield connected


@pytest.fixture
async def records(server: NatsServer, connection: Connection) -> Records:
    await ensure_streams(server.settings(), CONFIG)
    return Records(connection, Publisher(connection, 10))


def sweep_of(connection: Connection) -> RecordSweep:
    return RecordSweep(connection, Publisher(connection, 10), results_max_bytes=ROOM)


async def written(records: Records, count: int, body: bytes = BODY) -> list[CallId]:
    """So many records of calls that have ended, the oldest first."""
    ids = [new_call_id() for _ in range(count)]
    for call_id in ids:
        invocation = Invocation(call_id, call_id, FunctionRef("f"), 1, None, b"POST / HTTP/1.1\r\n\r\n")
        await records.put(CallRecord.of(invocation, "q", CallStatus.SUCCEEDED), body, 0)
    return ids


async def stand(records: Records, ids: Iterable[CallId]) -> list[str]:
    """What is known of each: stored, gone or unknown."""
    words = {Stored: "stored", AgedOut: "gone", type(None): "unknown"}
    return [words[type(await records.read(call_id))] for call_id in ids]


async def bytes_stored(connection: Connection) -> int:
    size: int = (await ask(connection, f"STREAM.INFO.{STREAM}"))["state"]["bytes"]
    return size


async def test_the_oldest_records_make_room_and_are_known_to_have_been_there(
    connection: Connection, records: Records
) -> None:
    ids = await written(records, 150)
    await sweep_of(connection).sweep()
    told = await stand(records, ids)
    left = told.count("stored")
    assert told == ["gone"] * (150 - left) + ["stored"] * left
    assert 95 <= left <= 105
    assert await bytes_stored(connection) <= ROOM
    gone = await records.read(ids[0])
    assert isinstance(gone, AgedOut)
    assert gone.made_room
    assert await stand(records, [new_call_id()]) == ["unknown"]
    # And nothing more goes while there is room.
    await sweep_of(connection).sweep()
    assert await stand(records, ids) == told


async def test_markers_make_room_as_well_once_all_that_was_newer_has_gone(
    connection: Connection, records: Records
) -> None:
    sweep = sweep_of(connection)
    ids = []
    for _ in range(20):
        ids += await written(records, 200, b"x" * 300)
        await sweep.sweep()
        assert await bytes_stored(connection) <= ROOM
    told = await stand(records, ids)
    stored, gone = told.count("stored"), told.count("gone")
    assert told == ["unknown"] * (len(ids) - stored - gone) + ["gone"] * gone + ["stored"] * stored
    assert len(ids) > stored + gone
    assert stored >= 0.9 * gone, "as many are remembered as are kept, so that markers take the smaller part"


async def test_a_call_that_moves_on_meanwhile_keeps_its_record_whoever_sweeps(
    connection: Connection, records: Records
) -> None:
    ids = await written(records, 200)
    moved: set[CallId] = set()

    async def move_on() -> None:
        for call_id in ids[:60]:
            stored = await records.read(call_id)
            if isinstance(stored, Stored):
                try:
                    await records.put(stored.record._replace(reason="moved on"), b"", stored.sequence)
                except Conflict:
                    continue
                moved.add(call_id)

    await asyncio.gather(move_on(), *(sweep_of(connection).sweep() for _ in range(3)))
    await sweep_of(connection).sweep()
    assert await bytes_stored(connection) <= ROOM
    assert moved
    for call_id in moved:
        # Written last, so the newest of all: nothing of it may have made room.
        stored = await records.read(call_id)
        assert isinstance(stored, Stored)
        assert stored.record.reason == "moved on"
    assert set(await stand(records, ids)) == {"stored", "gone"}


async def test_a_record_that_is_larger_than_all_the_room_is_kept_until_the_next_comes(
    connection: Connection, records: Records
) -> None:
    sweep = sweep_of(connection)
    (large,) = await written(records, 1, b"x" * (ROOM - 300))
    await sweep.sweep()
    assert await stand(records, [large]) == ["stored"]
    (other,) = await written(records, 1, b"x" * (ROOM - 300))
    await sweep.sweep()
    assert await stand(records, [large, other]) == ["gone", "stored"]


async def test_a_stream_that_an_older_version_made_has_room_above_what_records_may_take(
    server: NatsServer, connection: Connection
) -> None:
    older = stream_config(replicas=1, ttl_s=3600, max_bytes=ROOM)
    await ensure_streams(server.settings(), older)
    records = Records(connection, Publisher(connection, 10))
    first = await written(records, 50)
    await ensure_streams(server.settings(), CONFIG)
    ids = first + await written(records, 100)
    await sweep_of(connection).sweep()
    assert set(await stand(records, ids)) == {"stored", "gone"}
    # A part of that version that starts later sets its limit again: the sweep stays below it.
    await ensure_streams(server.settings(), older)
    await written(records, 2)
    await sweep_of(connection).sweep()
    assert await bytes_stored(connection) <= ROOM - ROOM // 8
    assert "unknown" not in await stand(records, ids)


async def test_where_jetstream_grants_no_more_than_before_records_are_kept_as_before() -> None:
    async with nats_server(started=False) as server:
        small = "jetstream {\n  max_file_store: 40M"
        server.config.write_text(server.config.read_text().replace("jetstream {", small))
        await server.start()
        settings = server.settings(results_max_bytes=str(32 * ROOM))
        for _ in range(2):  # as at the first start, and at the next
            async with kept_streams(settings), connect(settings, name="test") as connection:
                about = await ask(connection, f"STREAM.INFO.{STREAM}")
                assert about["config"]["max_bytes"] == 32 * ROOM
