"""A gateway and a worker before a function on a raw socket: what it is sent, and what becomes of what it answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from holdfast.invocation import CallId
from holdfast.queue.connection import connect
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.queue.records import Records, Stored
from holdfast.queue.waiting import find
from tests.support.nats import NatsServer, nats_server
from tests.support.parts import gateway, worker
from tests.support.raw_function import ANSWER, RawFunction, raw_function
from tests.support.receiver import Receiver, receiver


@dataclass
class Stage:
    function: RawFunction
    callbacks: Receiver
    nats: NatsServer
    gateway_url: str

    async def call(
        self, path: str = "raw", headers: list[tuple[bytes, bytes]] | None = None, body: bytes = b"x"
    ) -> str:
        """Gives the call's id."""
        wanted = [(b"X-Callback-Url", self.callbacks.url.encode()), *(headers or [])]
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{self.gateway_url}/async-function/{path}", content=body, headers=wanted)
        assert answer.status_code == 202, answer.text
        return str(answer.headers["X-Call-Id"])


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with nats_server() as nats, raw_function() as function, receiver() as callbacks:
        environ = {
            "max_retry_attempts": "1",
            "replica_wait": "2s",
            "upstream_timeout": "2s",
            "max_result_bytes": "10000",
        }
        async with gateway(nats.url, function.url) as front, worker(nats.url, function.url, **environ):
            yield Stage(function, callbacks, nats, front.url)


async def test_the_function_gets_duplicates_order_spelling_and_bytes_as_sent(stage: Stage) -> None:
    sent = [
        (b"X-One", b"1"),
        (b"x-two", b"first"),
        (b"X-TWO", b"second"),
        (b"Cookie", b"a=b"),
        (b"Authorization", b"Bearer secret"),
        (b"X-Latin", b"Gr\xfc\xdfe"),
        (b"Keep-Alive", b"timeout=5"),
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Start-Time", b"1"),
    ]
    body = bytes(range(256))
    await stage.call("raw/a%2Fb?x=%3F&x=&y", sent, body)
    (request,) = await stage.function.wait_for(1)
    head, _, got = request.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    assert line == b"POST /a%2Fb?x=%3F&x=&y HTTP/1.1"
    assert got == body
    order = [field for field in lines if field.lower().startswith((b"x-one", b"x-two", b"cookie", b"auth", b"x-latin"))]
    assert order == [name + b": " + value for name, value in sent[:6]]
    fields = [field.split(b": ", 1) for field in lines]
    names = [name.lower() for name, _ in fields]
    assert names.count(b"host") == names.count(b"content-length") == names.count(b"x-call-id") == 1
    assert b"keep-alive" not in names
    values = {name.lower(): value for name, value in fields}
    assert values[b"host"] == stage.function.url.removeprefix("http://").encode()
    assert values[b"x-forwarded-host"] == stage.gateway_url.removeprefix("http://").encode()
    assert values[b"x-forwarded-for"] == b"192.0.2.1, 127.0.0.1"
    (callback,) = await stage.callbacks.wait_for(1)
    assert values[b"x-call-id"] == callback["X-Call-Id"].encode()
    assert values[b"x-start-time"] == callback["X-Start-Time"].encode()


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", "302", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\n" + ANSWER, "200", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "204", b""),
        (b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", "500", b"no"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "200", b"until the end"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "502", b""),
        (b"SSH-2.0-OpenSSH\r\n", "502", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n" + b"x" * 10001, "502", b"larger than 10000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 20000, "502", b"larger than 10000 bytes"),
    ],
)
async def test_an_odd_answer_ends_the_call_with_an_honest_status(
    stage: Stage, answer: bytes, status: str, words: bytes
) -> None:
    stage.function.answer = lambda _number: answer
    await stage.call()
    (callback,) = await stage.callbacks.wait_for(1)
    assert callback["X-Function-Status"] == status
    assert words in callback.body
    assert len(stage.function.requests) == 1


@pytest.mark.parametrize("broken", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"])
async def test_a_lost_connection_is_no_result_and_the_call_runs_again(stage: Stage, broken: bytes) -> None:
    stage.function.answer = lambda number: ANSWER if number == 2 else broken
    await stage.call()
    (callback,) = await stage.callbacks.wait_for(1)
    assert (callback["X-Function-Status"], callback.body) == ("200", b"ok")
    assert len(stage.function.requests) == 2


async def test_a_lost_connection_begins_no_other_run_of_a_call_that_was_cancelled_unheard(stage: Stage) -> None:
    """As when the worker's connection to NATS was away in the moment in which its gateway told of the cancel."""
    stage.function.answer = lambda _number: b""
    stage.function.hang = asyncio.Event()
    call_id = CallId(await stage.call())
    await stage.function.wait_for(1)
    async with connect(stage.nats.settings(), name="test") as connection:
        records = Records(connection, Publisher(connection, 5.0))
        found = await find(connection, call_id)
        assert found is not None
        record = CallRecord.of(found.invocation, found.queue, CallStatus.WAITING).cancelled(time.time_ns(), "a test")
        await records.put(record, b"", 0)
        stage.function.hang.set()
        async with asyncio.timeout(30):
            while await find(connection, call_id, surely=True) is not None:
                await asyncio.sleep(0.02)  # until the worker has acknowledged it
        stored = await records.read(call_id)
        assert isinstance(stored, Stored)
        assert stored.record == record
    assert len(stage.function.requests) == 1
    assert not stage.callbacks.callbacks


async def test_a_function_that_ends_every_time_fails_the_call_after_three_runs(stage: Stage) -> None:
    stage.function.answer = lambda _number: b""
    await stage.call()
    (callback,) = await stage.callbacks.wait_for(1)
    assert callback["X-Function-Status"] == "502"
    assert b"ended without an answer 3 times" in callback.body
    assert len(stage.function.requests) == 3


async def test_without_nats_a_call_is_refused_and_with_it_accepted_again(stage: Stage) -> None:
    await stage.call()
    await stage.callbacks.wait_for(1)
    stage.nats.kill()
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{stage.gateway_url}/async-function/raw", content=b"x")
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "send it again" in answer.text
        assert (await client.get(f"{stage.gateway_url}/healthz")).status_code == 503
        await stage.nats.start()
        while (await client.post(f"{stage.gateway_url}/async-function/raw", content=b"x")).status_code != 202:
            pass
    await stage.function.wait_for(2)


async def test_a_frozen_nats_means_503_and_never_202(stage: Stage) -> None:
    stage.nats.freeze()
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.post(f"{stage.gateway_url}/async-function/raw", content=b"x")
    stage.nats.thaw()
    assert answer.status_code == 503
