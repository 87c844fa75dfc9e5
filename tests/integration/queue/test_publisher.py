from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from holdfast.errors import QueueRefused, QueueUnavailable
from holdfast.queue.connection import Connection, connect
from holdfast.queue.embedded import Durability
from holdfast.queue.link import SEND_LIMIT
from holdfast.queue.publisher import Publisher
from tests.support.nats import NatsServer, nats_server, within

SUBJECT = b"q.ns.f.id"


def headers(message_id: str | None = None) -> bytes:
    return b"NATS/1.0\r\nNats-Msg-Id: %b\r\n\r\n" % (message_id or uuid.uuid4().hex).encode()


async def ask(conn: Connection, subject: str, **body: Any) -> Any:
    answer = await conn.request(f"$JS.API.{subject}".encode(), json.dumps(body).encode(), 5)
    fields = json.loads(answer.payload)
    assert "error" not in fields, fields
    return fields


async def make_stream(conn: Connection, **config: Any) -> None:
    await ask(
        conn,
        "STREAM.CREATE.Q",
        name="Q",
        subjects=["q.>"],
        retention="workqueue",
        storage="file",
        num_replicas=1,
        **config,
    )


async def stored(conn: Connection) -> int:
    return int((await ask(conn, "STREAM.INFO.Q"))["state"]["messages"])


@pytest.fixture
async def conn(server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(server.settings(), name="publisher") as connection:
        yield connection


class Outcomes:
    """Counts how each publish ended; `all_of(n)` waits for the n-th."""

    def __init__(self) -> None:
        self.ended: list[tuple[Exception | None, int, bool]] = []
        self._enough = asyncio.Event()
        self._wanted = 0

    def done(self) -> Callable[[Exception | None, int, bool], None]:
        called = False

        def done(error: Exception | None, sequence: int, duplicate: bool) -> None:  # noqa: FBT001
            nonlocal called
            assert not called, "done was called twice"
            called = True
            self.ended.append((error, sequence, duplicate))
            if len(self.ended) >= self._wanted:
                self._enough.set()

        return done

    async def all_of(self, count: int, seconds: float = 30) -> list[tuple[Exception | None, int, bool]]:
        self._wanted = count
        if len(self.ended) < count:
            self._enough.clear()
            await within(seconds, self._enough.wait())
        return self.ended

    @property
    def confirmed(self) -> list[int]:
        return [sequence for error, sequence, _ in self.ended if error is None]


async def test_a_confirmed_message_is_in_the_stream_with_its_bytes(conn: Connection) -> None:
    await make_stream(conn)
    sequence = await Publisher(conn, 5).confirm(SUBJECT, headers("one"), bytes(range(256)))
    assert sequence == 1
    message = (await ask(conn, "STREAM.MSG.GET.Q", seq=1))["message"]
    assert message["subject"] == SUBJECT.decode()
    assert base64.b64decode(message["data"]) == bytes(range(256))


async def test_a_thousand_publishes_at_once_are_each_confirmed_once_in_order(conn: Connection) -> None:
    await make_stream(conn)
    publisher, outcomes = Publisher(conn, 10), Outcomes()
    for _ in range(1000):
        publisher.publish(SUBJECT, headers(), b"x" * 256, outcomes.done())
    await outcomes.all_of(1000)
    assert outcomes.confirmed == list(range(1, 1001))
    assert publisher.waiting == 0


async def test_the_same_message_id_is_stored_once_and_said_to_be_a_duplicate(conn: Connection) -> None:
    await make_stream(conn)
    publisher, outcomes = Publisher(conn, 5), Outcomes()
    for _ in range(3):
        publisher.publish(SUBJECT, headers("same"), b"x", outcomes.done())
    assert await outcomes.all_of(3) == [(None, 1, False), (None, 1, True), (None, 1, True)]
    assert await stored(conn) == 1


async def test_a_full_queue_refuses_with_jetstreams_own_number(conn: Connection) -> None:
    await make_stream(conn, max_msgs=1, discard="new")
    publisher = Publisher(conn, 5)
    assert await publisher.confirm(SUBJECT, headers(), b"fits") == 1
    with pytest.raises(QueueRefused) as refused:
        await publisher.confirm(SUBJECT, headers(), b"one too many")
    assert (refused.value.code, refused.value.err_code) == (503, 10077)
    assert "maximum messages exceeded" in refused.value.description


async def test_a_message_over_the_streams_limit_is_refused(conn: Connection) -> None:
    await make_stream(conn, max_msg_size=100)
    with pytest.raises(QueueRefused) as refused:
        await Publisher(conn, 5).confirm(SUBJECT, headers(), b"x" * 200)
    assert refused.value.err_code == 10054


async def test_a_message_over_the_servers_limit_is_refused_and_the_connection_stays(conn: Connection) -> None:
    await make_stream(conn)
    publisher = Publisher(conn, 5)
    exact = conn.max_payload - len(headers("1"))
    assert await publisher.confirm(SUBJECT, headers("1"), b"x" * exact) == 1
    with pytest.raises(QueueRefused) as refused:
        await publisher.confirm(SUBJECT, headers("1"), b"x" * (exact + 1))
    assert refused.value.code == 413
    assert await publisher.confirm(SUBJECT, headers(), b"still connected") == 2


async def test_without_a_stream_the_refusal_comes_after_the_timeout_and_names_the_subject(conn: Connection) -> None:
    began = time.monotonic()
    with pytest.raises(QueueRefused, match=r"no stream takes q\.ns\.f\.id") as refused:
        await Publisher(conn, 0.3).confirm(SUBJECT, headers(), b"x")
    assert refused.value.code == 503
    assert 0.25 < time.monotonic() - began < 5


async def test_a_publish_waits_for_a_stream_that_is_made_meanwhile(conn: Connection) -> None:
    publisher, outcomes = Publisher(conn, 10), Outcomes()
    publisher.publish(SUBJECT, headers(), b"x", outcomes.done())
    await conn.flush()
    await make_stream(conn)
    assert await outcomes.all_of(1) == [(None, 1, False)]


async def test_a_publish_without_a_connection_is_refused_before_the_call_returns(
    server: NatsServer, conn: Connection
) -> None:
    publisher, outcomes = Publisher(conn, 5), Outcomes()
    server.kill()
    with pytest.raises(QueueUnavailable):  # ends when the loss is noticed
        await conn.flush()
    publisher.publish(SUBJECT, headers(), b"x", outcomes.done())
    [(error, _, _)] = outcomes.ended
    assert isinstance(error, QueueUnavailable)
    assert publisher.waiting == 0


async def test_a_frozen_server_fails_a_publish_in_time_and_a_late_confirmation_is_ignored(
    server: NatsServer, conn: Connection
) -> None:
    await make_stream(conn)
    publisher, outcomes = Publisher(conn, 0.2), Outcomes()
    server.freeze()
    try:
        publisher.publish(SUBJECT, headers(), b"x", outcomes.done())
        [(error, _, _)] = await outcomes.all_of(1)
        assert isinstance(error, QueueUnavailable)
        assert "no confirmation within 0.2 s" in str(error)
    finally:
        server.thaw()
    await conn.flush(10)
    async with asyncio.timeout(10):
        while await stored(conn) != 1:  # unconfirmed is not the same as not stored
            pass
    assert len(outcomes.ended) == 1


async def test_a_server_that_takes_nothing_is_not_given_more_than_the_limit(
    server: NatsServer, conn: Connection
) -> None:
    await make_stream(conn)
    publisher, outcomes = Publisher(conn, 30), Outcomes()
    size = 4 * 1024 * 1024
    server.freeze()
    try:
        for _ in range(20):
            publisher.publish(SUBJECT, headers(), bytes(size), outcomes.done())
        assert outcomes.ended, "80 MiB were taken for a server that reads nothing"
        assert publisher.waiting * size < 2 * SEND_LIMIT
        assert all("as fast as they come" in str(error) for error, _, _ in outcomes.ended)
        waiting, refused = publisher.waiting, len(outcomes.ended)
    finally:
        server.thaw()
    await outcomes.all_of(waiting + refused)
    assert await stored(conn) == waiting
    assert not conn.congested


async def test_one_done_that_fails_does_not_cost_the_others_theirs(server: NatsServer, conn: Connection) -> None:
    await make_stream(conn)
    publisher, outcomes = Publisher(conn, 0.2), Outcomes()

    def broken(error: Exception | None, sequence: int, duplicate: bool) -> None:  # noqa: FBT001
        raise RuntimeError("on purpose")

    publisher.publish(SUBJECT, headers(), b"x", broken)
    publisher.publish(SUBJECT, headers(), b"x", outcomes.done())
    await outcomes.all_of(1)
    server.freeze()
    try:
        publisher.publish(SUBJECT, headers(), b"x", broken)
        publisher.publish(SUBJECT, headers(), b"x", outcomes.done())
        await outcomes.all_of(2)
    finally:
        server.thaw()


async def test_cancelling_a_confirm_leaves_nothing_behind(conn: Connection) -> None:
    await make_stream(conn)
    publisher = Publisher(conn, 5)
    confirmed = publisher.confirm(SUBJECT, headers(), b"x")
    confirmed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await confirmed
    await publisher.confirm(SUBJECT, headers(), b"confirmations come in order")
    assert publisher.waiting == 0


async def test_what_waits_for_confirmation_is_told_when_the_connection_closes(server: NatsServer) -> None:
    async with connect(server.settings(), name="short") as conn:
        await make_stream(conn)
        publisher, outcomes = Publisher(conn, 30), Outcomes()
        server.kill()
        publisher.publish(SUBJECT, headers(), b"x", outcomes.done())
    [(error, _, _)] = outcomes.ended
    assert isinstance(error, QueueUnavailable)


class Load:
    """Keeps `window` publishes under way until `total` are published, across lost connections."""

    def __init__(self, publisher: Publisher, conn: Connection, total: int, window: int = 100) -> None:
        self.outcomes = Outcomes()
        self._publisher = publisher
        self._conn = conn
        self._total = total
        self._window = window
        self._published = 0

    def go_on(self) -> None:
        while self._conn.connected and self._published < self._total and self._publisher.waiting < self._window:
            self._published += 1
            done = self.outcomes.done()

            def and_on(
                error: Exception | None,
                sequence: int,
                duplicate: bool,  # noqa: FBT001
                done: Callable[[Exception | None, int, bool], None] = done,
            ) -> None:
                done(error, sequence, duplicate)
                self.go_on()

            self._publisher.publish(SUBJECT, headers(f"id-{self._published}"), b"%d" % self._published, and_on)


@pytest.mark.parametrize("durability", ["disk", "os"])
async def test_a_kill_of_the_server_under_load_loses_nothing_confirmed_and_stores_nothing_twice(
    durability: Durability,
) -> None:
    back = asyncio.Event()
    async with nats_server(durability) as server, connect(server.settings(), name="load", on_back=back.set) as conn:
        await make_stream(conn)
        load = Load(Publisher(conn, 30), conn, total=2000)
        load.go_on()
        for kill_at in (300, 1000):
            await load.outcomes.all_of(kill_at)
            back.clear()
            await server.restart()
            await within(10, back.wait())
            load.go_on()
        ended = await load.outcomes.all_of(2000)
        assert [error for error, _, _ in ended if error is not None] == []
        # Every confirmation names its own place in the stream, and the stream holds just these.
        assert len(set(load.outcomes.confirmed)) == 2000
        assert await stored(conn) == 2000
