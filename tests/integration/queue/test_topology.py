from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from holdfast.errors import QueueError, QueueRefused, QueueUnavailable
from holdfast.queue.api import ask
from holdfast.queue.connection import connect
from holdfast.queue.topology import ensure_consumer, ensure_queue, ensure_streams, stream_config, stream_state
from holdfast.settings import NatsSettings
from tests.support.nats import NatsServer, free_port
from tests.support.queues import Queue


async def test_any_number_at_once_may_make_a_queue(server: NatsServer) -> None:
    settings = server.settings()
    await asyncio.gather(*(ensure_consumer(settings, "work", 10) for _ in range(5)), ensure_queue(settings, "work"))
    async with connect(settings, name="test") as connection:
        state = await stream_state(connection, "OF_work")
        assert (state.last_sequence, state.delivered_to) == (0, 0)
        again = await stream_state(connection, "OF_work")
        await ensure_queue(settings, "work")
        assert again.made == state.made


async def test_a_stream_of_an_older_version_learns_to_take_batches_and_keeps_its_calls(server: NatsServer) -> None:
    settings = server.settings()
    older = replace(stream_config(settings, "work"), allow_atomic=None, subjects=["work.call.>"])
    await ensure_streams(settings, older)
    async with connect(settings, name="test") as connection:
        queue = Queue(server, connection)
        await queue.put(b"x")
        await asyncio.gather(*(ensure_queue(settings, "work") for _ in range(3)))
        about = await ask(connection, "STREAM.INFO.OF_work")
    assert about["config"]["allow_atomic"] is True
    assert set(about["config"]["subjects"]) == set(stream_config(settings, "work").subjects or ())
    assert about["state"]["messages"] == 1


async def test_another_ack_wait_changes_the_consumer_and_keeps_its_place(server: NatsServer) -> None:
    await ensure_consumer(server.settings(), "work", 10)
    async with connect(server.settings(), name="test") as connection:
        queue = Queue(server, connection)
        await queue.put(b"x")
        before = await queue.consumer()
        await ensure_consumer(server.settings(), "work", 2.5)
        after = await queue.consumer()
    assert before["config"]["ack_wait"] == 10_000_000_000
    assert after["config"]["ack_wait"] == 2_500_000_000
    assert {**after["config"], "ack_wait": 0} == {**before["config"], "ack_wait": 0}
    assert after["created"] == before["created"]
    assert after["num_pending"] == 1


async def test_a_gateway_never_changes_what_a_worker_set(server: NatsServer) -> None:
    settings = server.settings()
    await asyncio.gather(*(ensure_queue(settings, "work") for _ in range(4)), ensure_consumer(settings, "work", 60))
    await ensure_queue(settings, "work")
    async with connect(settings, name="test") as connection:
        consumer = await Queue(server, connection).consumer()
        assert consumer["config"]["ack_wait"] == 60_000_000_000


async def test_the_first_of_three_servers_may_be_dead(server: NatsServer) -> None:
    dead = [f"nats://127.0.0.1:{free_port()}" for _ in range(2)]
    settings = NatsSettings.from_environment({"nats_url": ",".join([dead[0], server.url, dead[1]])})
    await ensure_consumer(settings, "work", 10)


async def test_without_any_server_it_is_said_that_none_was_reached() -> None:
    settings = NatsSettings.from_environment({"nats_url": f"nats://u:topsecret@127.0.0.1:{free_port()}"})
    with pytest.raises(QueueUnavailable) as failure:
        await ensure_queue(settings, "work")
    assert "topsecret" not in str(failure.value)


@pytest.mark.parametrize("name", ["", "holdfast", "_INBOX", "$JS", "a b", "a.b", "a*", "a>", "a/b", "x" * 65, "ü"])
async def test_a_name_that_cannot_be_a_stream_is_refused(name: str) -> None:
    with pytest.raises(QueueError, match="a queue cannot be named"):
        await ensure_queue(NatsSettings.from_environment({}), name)


async def test_a_stream_that_takes_the_same_subjects_already_is_an_error_that_is_told(server: NatsServer) -> None:
    async with connect(server.settings(), name="test") as connection:
        body = json.dumps({"name": "OTHER", "subjects": ["work.call.>"], "num_replicas": 1}).encode()
        await connection.request(b"$JS.API.STREAM.CREATE.OTHER", body, 5)
        with pytest.raises(QueueRefused, match="overlap"):
            await ensure_queue(server.settings(), "work")


async def test_a_stream_or_consumer_that_is_not_there_is_told_apart_from_silence(server: NatsServer) -> None:
    async with connect(server.settings(), name="test") as connection:
        with pytest.raises(QueueRefused) as refused:
            await stream_state(connection, "OF_work")
        assert refused.value.code == 404
        await ensure_streams(server.settings(), stream_config(server.settings(), "work"))
        with pytest.raises(QueueRefused) as refused:
            await stream_state(connection, "OF_work")
        assert refused.value.code == 404
        server.kill()
        with pytest.raises(QueueUnavailable):
            await stream_state(connection, "OF_work")
