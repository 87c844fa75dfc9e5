from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.errors import QueueRefused, QueueUnavailable
from holdfast.queue.connection import Connection, connect
from holdfast.queue.group_commit import LEAST, MOST, SINGLES, GroupCommit
from holdfast.queue.publisher import Publisher
from holdfast.settings import NatsSettings
from tests.support.nats import PASSWORD, USER, NatsServer, nats_server, within


@pytest.fixture
async def server() -> AsyncIterator[NatsServer]:
    async with nats_server(durability="disk") as running:
        yield running


@pytest.fixture
async def conn(server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(server.settings(), name="group commit") as connection:
        yield connection


async def ask(conn: Connection, subject: str, **body: Any) -> Any:
    answer = await conn.request(f"$JS.API.{subject}".encode(), json.dumps(body).encode(), 5)
    fields = json.loads(answer.payload)
    assert "error" not in fields, fields
    return fields


async def make_stream(conn: Connection, *, batches: bool = True) -> None:
    await ask(
        conn,
        "STREAM.CREATE.Q",
        name="Q",
        subjects=["q.>"],
        retention="workqueue",
        storage="file",
        num_replicas=1,
        allow_atomic=batches,
        allow_direct=True,
    )


class Calls:
    """Publishes messages with ids of their own, and notes what became of each."""

    def __init__(self, group: GroupCommit) -> None:
        self._group = group
        self._all, self._enough = asyncio.Event(), asyncio.Event()
        self._confirmed = self._wanted = 0
        self.under_way = 0
        self.ended: dict[str, tuple[Exception | None, int, bool]] = {}

    def publish(self, message_id: str = "", size: int = 300) -> asyncio.Future[None]:
        message_id = message_id or uuid.uuid4().hex
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.under_way += 1

        def done(error: Exception | None, sequence: int, duplicate: bool) -> None:  # noqa: FBT001 - the publisher's
            assert message_id not in self.ended, "done was called twice"
            self.ended[message_id] = (error, sequence, duplicate)
            self.under_way -= 1
            told.set_result(None)
            self._confirmed += error is None
            if self._confirmed == self._wanted:
                self._enough.set()
            if not self.under_way:
                self._all.set()

        headers = b"NATS/1.0\r\nNats-Msg-Id: %b\r\n\r\n" % message_id.encode()
        self._group.publish(f"q.call.ns.f.{message_id}".encode(), headers, b"x" * size, done)
        return told

    async def confirmed_more(self, count: int) -> None:
        """Return when so many more are confirmed."""
        self._wanted = self._confirmed + count
        self._enough.clear()
        await within(60, self._enough.wait())

    async def all(self) -> None:
        if self.under_way:
            self._all.clear()
            await within(60, self._all.wait())

    @property
    def confirmed(self) -> dict[str, int]:
        return {message_id: sequence for message_id, (error, sequence, _) in self.ended.items() if error is None}


async def stored(conn: Connection) -> dict[str, int]:
    """How often each message id is in the stream."""
    info = await ask(conn, "STREAM.INFO.Q", subjects_filter="q.>")
    return {subject.rpartition(".")[2]: count for subject, count in (info["state"].get("subjects") or {}).items()}


async def headers_of(conn: Connection, sequence: int) -> bytes:
    return (await conn.request(b"$JS.API.DIRECT.GET.Q", json.dumps({"seq": sequence}).encode(), 5)).headers


async def in_batches(conn: Connection) -> int:
    """How many of the stream's messages came in a batch."""
    last = (await ask(conn, "STREAM.INFO.Q"))["state"]["last_seq"]
    return sum([b"Nats-Batch-Id" in await headers_of(conn, sequence) for sequence in range(1, last + 1)])


async def test_a_few_are_published_singly_and_at_once(conn: Connection) -> None:
    await make_stream(conn)
    calls = Calls(GroupCommit(conn, Publisher(conn, 10)))
    for _ in range(SINGLES):
        calls.publish()
    await calls.all()
    assert sorted(calls.confirmed.values()) == list(range(1, SINGLES + 1))
    assert await in_batches(conn) == 0


async def test_many_at_once_share_commits_and_each_is_told_its_own_sequence(conn: Connection) -> None:
    await make_stream(conn)
    calls = Calls(GroupCommit(conn, Publisher(conn, 30)))
    count = SINGLES + MOST + LEAST + 3  # the first ones, a whole batch, another one
    for _ in range(count):
        calls.publish()
    await calls.all()
    assert list(calls.confirmed.values()) == list(range(1, count + 1)), "in the order in which they came"
    for message_id, sequence in list(calls.confirmed.items())[:: count // 7]:
        assert f"Nats-Msg-Id: {message_id}".encode() in await headers_of(conn, sequence)
    assert await in_batches(conn) >= MOST


async def test_a_stream_that_takes_no_batches_gets_all_singly(conn: Connection) -> None:
    await make_stream(conn, batches=False)
    calls = Calls(GroupCommit(conn, Publisher(conn, 30)))
    for _ in range(3):
        for _ in range(100):
            calls.publish()
        await calls.all()
    assert len(calls.confirmed) == 300
    assert set((await stored(conn)).values()) == {1}


async def test_one_that_is_stored_already_does_not_cost_the_others_of_its_batch(conn: Connection) -> None:
    await make_stream(conn)
    publisher = Publisher(conn, 30)
    first = await publisher.confirm(b"q.call.ns.f.known", b"NATS/1.0\r\nNats-Msg-Id: known\r\n\r\n", b"x")
    calls = Calls(GroupCommit(conn, publisher))
    for number in range(60):
        calls.publish("known" if number == 40 else "")
    await calls.all()
    assert len(calls.confirmed) == 60
    assert calls.ended["known"] == (None, first, True)
    assert set((await stored(conn)).values()) == {1}


async def test_one_that_is_too_large_is_refused_and_the_others_are_stored(conn: Connection) -> None:
    await make_stream(conn)
    calls = Calls(GroupCommit(conn, Publisher(conn, 30)))
    for number in range(60):
        calls.publish("large" if number == 40 else "", size=conn.max_payload + 1 if number == 40 else 300)
    await calls.all()
    error, _, _ = calls.ended["large"]
    assert isinstance(error, QueueRefused)
    assert error.code == 413
    assert len(calls.confirmed) == 59


async def test_without_a_stream_each_is_told_in_the_time_of_one(conn: Connection) -> None:
    calls = Calls(GroupCommit(conn, Publisher(conn, 0.5)))
    for _ in range(60):
        calls.publish()
    await calls.all()
    assert not calls.confirmed
    assert all(isinstance(error, QueueRefused) and error.code == 503 for error, _, _ in calls.ended.values())


async def test_without_a_connection_each_is_refused(server: NatsServer, conn: Connection) -> None:
    await make_stream(conn)
    watching = Watching(conn)
    server.kill()
    await within(10, watching.gone.wait())
    calls = Calls(GroupCommit(conn, Publisher(conn, 5)))
    for _ in range(60):
        calls.publish()
    await calls.all()
    assert all(isinstance(error, QueueUnavailable) for error, _, _ in calls.ended.values())


async def test_what_waits_is_refused_when_the_connection_is_lost_and_what_was_sent_is_stored(
    server: NatsServer, conn: Connection
) -> None:
    await make_stream(conn)
    calls = Calls(GroupCommit(conn, Publisher(conn, 60)))
    server.freeze()
    for _ in range(60):
        calls.publish()
    await asyncio.sleep(0)  # a turn of the event loop: the first ones are sent
    await server.restart()
    await calls.all()
    refused = [error for error, _, _ in calls.ended.values() if error is not None]
    assert len(refused) == 60 - SINGLES
    assert all(isinstance(error, QueueUnavailable) for error in refused)
    assert await stored(conn) == dict.fromkeys(calls.confirmed, 1)


class Watching:
    """Events of a connection's life."""

    def __init__(self, conn: Connection) -> None:
        self.gone, self.back_again = asyncio.Event(), asyncio.Event()
        conn.watch(self)

    def lost(self) -> None:
        self.gone.set()

    def back(self) -> None:
        self.back_again.set()

    def closed(self) -> None: ...


@contextlib.asynccontextmanager
async def cut_once(server: NatsServer, after_bytes: int) -> AsyncIterator[NatsSettings]:
    """A way to the server that ends the first connection when so many bytes have gone to the server."""
    left = after_bytes
    cut = False
    async with asyncio.TaskGroup() as tasks:

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
            nonlocal left, cut
            with contextlib.suppress(OSError):
                while data := await reader.read(64 * 1024):
                    if counted and not cut:
                        data, left = data[:left], left - len(data)
                    writer.write(data)
                    await writer.drain()
                    if counted and not cut and left <= 0:
                        cut = True
                        break
            writer.close()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            to_server, from_server = await asyncio.open_connection("127.0.0.1", server.port)
            there = tasks.create_task(carry(reader, from_server, counted=True))
            back = tasks.create_task(carry(to_server, writer, counted=False))
            there.add_done_callback(lambda _: writer.close())
            await asyncio.wait([there, back])

        listening = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        try:
            yield NatsSettings.from_environment(
                {"nats_url": f"nats://{USER}:{PASSWORD}@127.0.0.1:{port}", "faas_max_reconnect": "0"}
            )
        finally:
            listening.close()


@pytest.mark.parametrize("after_bytes", [10_000, 20_000, 30_000])
async def test_a_connection_cut_within_a_batch_costs_no_call_and_doubles_none(
    server: NatsServer, conn: Connection, after_bytes: int
) -> None:
    await make_stream(conn)
    async with cut_once(server, after_bytes) as settings, connect(settings, name="cut") as through:
        calls = Calls(GroupCommit(through, Publisher(through, 30)))
        for _ in range(100):
            calls.publish()
        await calls.all()
    assert len(calls.confirmed) == 100
    assert await stored(conn) == dict.fromkeys(calls.ended, 1)


async def test_what_was_confirmed_outlives_kills_of_the_server_within_batches_and_nothing_is_stored_twice(
    server: NatsServer, conn: Connection
) -> None:
    await make_stream(conn)
    calls = Calls(GroupCommit(conn, Publisher(conn, 30)))
    going_on = True

    async def caller() -> None:
        while going_on:
            await calls.publish()
            if not conn.connected:  # refused at once: do not spin while the server is away
                await within(60, watching.back_again.wait())

    watching = Watching(conn)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(64):
            tasks.create_task(caller())
        for count in (150, 333, 200, 77):
            await calls.confirmed_more(count)
            watching.back_again.clear()
            await server.restart()
        going_on = False
        await within(60, watching.back_again.wait())
    kept = await stored(conn)
    assert set(calls.confirmed) <= set(kept)
    assert set(kept.values()) == {1}
