"""Limits over all callers: a full queue, memory for bodies. Each is a setting, and each refusal says when to retry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.hostile.case import post
from tests.hostile.readings import Answer, as_client
from tests.hostile.wire import wire
from tests.support.nats import NatsServer, nats_server
from tests.support.parts import Part, gateway, worker
from tests.support.raw_function import RawFunction, raw_function

PATIENCE_S = 60


@pytest.fixture
async def nats() -> AsyncIterator[NatsServer]:
    async with nats_server() as server:
        yield server


@pytest.fixture
async def function() -> AsyncIterator[RawFunction]:
    async with raw_function() as made:
        yield made


async def _accept(front: Part, *lines: bytes) -> Answer:
    port = int(front.url.rpartition(":")[2])
    async with wire(port) as connection:
        connection.send(post(b"Connection: close", *lines, body=b"x", target=b"/async-function/raw"))
        await connection.until_closed()
    return as_client(connection.received, [], ended=True)[0][0]


async def _accepted(front: Part) -> Answer:
    """Try again until a call is accepted, as Retry-After asks."""
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await _accept(front)).status == 503:
            await asyncio.sleep(0.1)
    return answer


async def test_a_full_queue_refuses_until_calls_have_ended(nats: NatsServer, function: RawFunction) -> None:
    async with gateway(nats.url, function.url, max_waiting="5") as front:
        answers = [await _accept(front) for _ in range(8)]
        assert [answer.status for answer in answers] == [202] * 5 + [503] * 3
        assert (answers[-1].first(b"retry-after"), b"queue faas-request is full" in answers[-1].body) == (b"10", True)
        # What waits for its time is held as well: a delay is no way around the limit.
        assert (await _accept(front, b"X-Delay: 1h")).status == 503
        async with worker(nats.url, function.url):
            await function.wait_for(5)
            assert (await _accepted(front)).status == 202


async def test_a_gateway_knows_what_was_stored_before_it_and_by_others(nats: NatsServer, function: RawFunction) -> None:
    async with gateway(nats.url, function.url) as unlimited:
        for _ in range(5):
            assert (await _accept(unlimited)).status == 202
        async with (
            gateway(nats.url, function.url, max_waiting="8") as one,
            gateway(nats.url, function.url, max_waiting="8") as two,
        ):
            accepted = [answer.status for front in (one, two) * 20 for answer in [await _accept(front)]].count(202)
            # Three were free: no gateway accepts more than that before it looks again.
            assert 3 <= accepted <= 6
            assert (await _accept(unlimited)).status == 202


async def test_chunked_bodies_count_as_they_come(nats: NatsServer, function: RawFunction) -> None:
    mib = 1024 * 1024
    async with gateway(nats.url, function.url, max_held_bytes=str(mib)) as front:
        port = int(front.url.rpartition(":")[2])
        head = b"POST /async-function/raw HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        most = b"%x\r\n" % (mib // 4) + b"x" * (mib // 4) + b"\r\n"
        async with wire(port) as one, wire(port) as two, wire(port) as three:
            for connection in (one, two):
                connection.send(head + most)
            for _ in range(20):
                # By then the gateway has read what was sent before.
                assert (await _accept(front)).status == 202
            three.send(head + most * 3)
            answers = await three.answers(1, [])
            assert (answers[0].status, answers[0].first(b"retry-after")) == (503, b"1")
            for connection in (one, two):
                connection.send(b"0\r\n\r\n")
                assert [answer.status for answer in await connection.answers(1, [])] == [202]


async def test_the_smaller_limits_are_settings_as_well(nats: NatsServer, function: RawFunction) -> None:
    little = {"max_target_bytes": "1024", "max_pipelined": "2", "max_header_bytes": "2000", "max_headers": "8"}
    async with gateway(nats.url, function.url, **little) as front:
        assert (await _accept(front)).status == 202
        assert (await _accept(front, *[b"X: a"] * 9)).status == 431
        assert (await _accept(front, b"X: " + b"a" * 300_000)).status == 431
        async with wire(int(front.url.rpartition(":")[2])) as connection:
            connection.send(post(target=b"/async-function/raw/" + b"a" * 1024))
            assert [answer.status for answer in await connection.answers(1, [])] == [414]
        async with wire(int(front.url.rpartition(":")[2])) as connection:
            connection.send(post(target=b"/async-function/raw") * 10)
            assert [answer.status for answer in await connection.answers(4, [])] == [202] * 3 + [400]


async def test_bodies_beyond_the_memory_for_them_are_refused_and_memory_is_given_back(
    nats: NatsServer, function: RawFunction
) -> None:
    mib = 1024 * 1024
    async with gateway(nats.url, function.url, max_held_bytes=str(2 * mib)) as front:
        port = int(front.url.rpartition(":")[2])
        head = b"POST /async-function/raw HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % mib
        async with wire(port) as one, wire(port) as two, wire(port) as three:
            for connection in (one, two):
                # The go-ahead says that the gateway holds room for it.
                connection.send(head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
                await connection.answers(1, [])
            three.send(head)
            (refused,) = await three.answers(1, [])
            assert (refused.status, refused.first(b"retry-after")) == (503, b"1")
            one.send(b"x" * mib)
            assert [answer.status for answer in await one.answers(2, [])] == [100, 202]
            two.end()
            await two.until_closed()
        for _ in range(3):
            async with wire(port) as connection:
                connection.send(head + b"x" * mib)
                assert [answer.status for answer in await connection.answers(1, [])] == [202]
