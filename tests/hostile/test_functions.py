"""Functions that answer in bad faith, called through the gateway and by the worker: neither trusts a byte of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import h11
import psutil
import pytest
import pytest_asyncio

from tests.hostile.case import post
from tests.hostile.evil import Answering, Evil, endless, evil, says
from tests.hostile.readings import as_client
from tests.hostile.wire import wire
from tests.support.nats import nats_server
from tests.support.parts import Part, gateway, worker
from tests.support.receiver import Receiver, receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKS = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HIDDEN = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden"
BROKEN_OFF = 0
"""In place of a status: the answer began and did not come to its end, and the client can tell."""


class Bad(NamedTuple):
    """An answer in bad faith, and what a caller is told of it: at once, and by the callback."""

    answer: Answering
    status: int
    called_back: int = 502


BAD = {
    "no-answer": Bad(says(b""), 502),
    "no-http": Bad(says(b"SSH-2.0-OpenSSH\r\n"), 502),
    "half-a-head": Bad(says(b"HTTP/1.1 200 OK\r\nA: "), 502),
    "endless-head": Bad(endless(OK, b"A: b\r\n" * 200), 502),
    "endless-value": Bad(endless(OK + b"A: ", b"b" * 1000), 502),
    "endless-status-line": Bad(endless(b"HTTP/1.1 200 ", b"O" * 1000), 502),
    "slow-head": Bad(endless(OK, b"A: b\r\n", pause_s=0.1), 504, 504),
    "many-headers": Bad(says(OK + b"A: b\r\n" * 300 + b"Content-Length: 0\r\n\r\n"), 502),
    "interim-flood": Bad(endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 100), 502),
    "interim-with-headers": Bad(endless(b"", b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" * 100), 502),
    "interim-with-body": Bad(says(b"HTTP/1.1 102 P\r\nContent-Length: %d\r\n\r\n%b" % (len(HIDDEN), HIDDEN)), 502),
    "interim-with-chunks": Bad(
        says(b"HTTP/1.1 199 P\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)), 502
    ),
    "another-protocol": Bad(says(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + HIDDEN), 502),
    "two-lengths": Bad(says(OK + b"Content-Length: 2\r\nContent-Length: 4\r\n\r\nhi" + HIDDEN), 502),
    "length-and-chunks": Bad(says(OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 502),
    "length-of-many-digits": Bad(says(OK + b"Content-Length: " + b"0" * 5000 + b"2\r\n\r\nhi"), 502),
    "length-with-a-sign": Bad(says(OK + b"Content-Length: -2\r\n\r\nhi"), 502),
    "unknown-coding": Bad(says(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 502),
    "NUL-in-a-value": Bad(says(OK + b"A: \0\r\nContent-Length: 0\r\n\r\n"), 502),
    "bare-LF": Bad(says(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"), 502),
    "bare-CR-in-a-value": Bad(says(OK + b"A: b\rSet-Cookie: c\r\nContent-Length: 0\r\n\r\n"), 502),
    "folded-value": Bad(says(OK + b"A: b\r\n Set-Cookie: c\r\nContent-Length: 0\r\n\r\n"), 502),
    "status-of-nothing": Bad(says(b"HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n"), 502),
    "early-end": Bad(says(OK + b"Content-Length: 100\r\n\r\nhalf"), BROKEN_OFF),
    "early-end-of-chunks": Bad(says(CHUNKS + b"4\r\nhalf\r\n"), BROKEN_OFF),
    "bad-chunk": Bad(says(CHUNKS + b"4\r\nhalf\r\nzz\r\n"), 502),
    "endless-extension": Bad(endless(CHUNKS + b"4\r\nhalf\r\n4;", b"a" * 1000), BROKEN_OFF),
    "endless-trailers": Bad(endless(CHUNKS + b"4\r\nhalf\r\n0\r\n", b"A: b\r\n" * 200), BROKEN_OFF),
    "slow-body": Bad(endless(OK + b"Content-Length: 1000\r\n\r\n", b"a", pause_s=0.1), BROKEN_OFF, 504),
    "endless-chunks": Bad(endless(CHUNKS, b"3e8\r\n" + b"a" * 1000 + b"\r\n"), BROKEN_OFF),
    "endless-body": Bad(endless(OK + b"Content-Length: 99999999999\r\n\r\n", b"a" * 1000), BROKEN_OFF),
}
FAIR = {
    "fair": says(OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi"),
    "two-answers": says(OK + b"Content-Length: 2\r\n\r\nhi" + HIDDEN),
    "body-where-none-may-be": says(b"HTTP/1.1 204 No Content\r\n\r\n" + HIDDEN),
    "forged": says(
        OK + b"X-Call-Id: forged\r\nX-Served-By: forged\r\nX-Start-Time: 1\r\nX-Function-Status: 299\r\n"
        b"X-Duration-Seconds: 9\r\nWebhook-Id: forged\r\nX-Holdfast-Depth: 0\r\nConnection: X-Call-Id, close\r\n"
        b"Keep-Alive: timeout=9\r\nContent-Length: 2\r\n\r\nhi"
    ),
}


class Stage(NamedTuple):
    gateway: Part
    worker: Part
    function: Evil
    callbacks: Receiver

    @property
    def port(self) -> int:
        return int(self.gateway.url.rsplit(":", 1)[1])


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="stage")
async def _stage() -> AsyncIterator[Stage]:
    little = {"upstream_timeout": "5s", "max_retry_attempts": "1", "max_result_bytes": "100000", "max_inflight": "64"}
    answers = {name: bad.answer for name, bad in BAD.items()} | FAIR
    async with (
        nats_server() as nats,
        evil(answers) as function,
        receiver() as callbacks,
        gateway(nats.url, function.url, **little) as front,
        worker(nats.url, function.url, **little) as back,
    ):
        yield Stage(front, back, function, callbacks)


async def _call(stage: Stage, name: str) -> tuple[int, bytes]:
    """Call and close: the status, and everything that came."""
    async with wire(stage.port) as connection:
        connection.send(post(b"Connection: close", target=b"/function/evil/" + name.encode()))
        await connection.until_closed()
    try:
        (answer,), stray = as_client(connection.received, [b"POST"], ended=True)
    except h11.RemoteProtocolError:
        return BROKEN_OFF, connection.received
    assert not stray
    return answer.status, connection.received


async def test_a_caller_is_told_honestly_and_sees_no_byte_that_is_not_part_of_its_answer(stage: Stage) -> None:
    async with asyncio.timeout(100), asyncio.TaskGroup() as callers:
        calls = {name: callers.create_task(_call(stage, name)) for name in BAD}
    told = {name: call.result() for name, call in calls.items()}
    assert {name: status for name, (status, _) in told.items()} == {name: bad.status for name, bad in BAD.items()}
    assert not [name for name, (_, received) in told.items() if b"hidden" in received or b"Set-Cookie" in received]
    assert (await _call(stage, "fair"))[0] == 200


async def test_a_worker_takes_none_of_them_for_a_result(stage: Stage) -> None:
    for name in BAD:
        request = post(
            b"X-Callback-Url: " + stage.callbacks.url.encode(),
            b"X-Call-Id: " + name.encode(),
            b"Connection: close",
            target=b"/async-function/evil/" + name.encode(),
        )
        async with wire(stage.port) as connection:
            connection.send(request)
            assert b" 202 " in await connection.until_closed()
    await stage.callbacks.wait_for_ids(set(BAD), timeout_s=100)
    statuses = {callback["X-Call-Id"]: callback["X-Function-Status"] for callback in stage.callbacks.callbacks}
    assert {name: statuses[name] for name in BAD} == {name: str(bad.called_back) for name, bad in BAD.items()}
    assert not [callback for callback in stage.callbacks.callbacks if b"hidden" in callback.body]


async def test_what_comes_behind_an_answer_reaches_nobody(stage: Stage) -> None:
    async with wire(stage.port) as one, wire(stage.port) as two:
        for name in (b"two-answers", b"body-where-none-may-be", b"fair") * 3:
            for connection in (one, two):
                connection.send(post(target=b"/function/evil/" + name))
        for connection in (one, two):
            await connection.answers(9, [])
            answers, stray = as_client(connection.received, [], ended=False)
            assert [answer.body for answer in answers] == [b"hi", b"", b"hi"] * 3
            assert not stray


async def test_a_function_cannot_speak_for_the_gateway(stage: Stage) -> None:
    call = post(
        b"X-Callback-Url: " + stage.callbacks.url.encode(),
        b"X-Call-Id: true",
        b"Connection: close",
        target=b"/function/evil/forged",
    )
    async with wire(stage.port) as connection:
        connection.send(call)
        await connection.until_closed()
    (answer,), _ = as_client(connection.received, [], ended=True)
    assert answer.first(b"x-call-id") == b"true"
    assert b"forged" not in (answer.first(b"x-served-by") or b"forged")
    assert answer.first(b"x-start-time") != b"1"
    assert answer.first(b"keep-alive") is None
    async with wire(stage.port) as connection:
        connection.send(call.replace(b"/function/", b"/async-function/"))
        await connection.until_closed()
    await stage.callbacks.wait_for_ids({"true"})
    callback = next(one for one in stage.callbacks.callbacks if one["X-Call-Id"] == "true")
    assert (callback["X-Function-Status"], callback.body) == ("200", b"hi")
    assert callback["webhook-id"] != "forged"
    assert callback["X-Duration-Seconds"] != "9"
    assert callback["X-Start-Time"] != "1"


async def test_endless_answers_to_clients_that_do_not_read_do_not_make_the_gateway_grow(stage: Stage) -> None:
    process = psutil.Process(stage.gateway.process.pid)
    await _call(stage, "endless-body")
    before = process.memory_info().rss

    async def stop_reading(name: str) -> None:
        async with wire(stage.port) as connection:
            connection.send(post(target=b"/function/evil/" + name.encode()))
            await connection.answers(1, [])

    names = ["endless-body", "endless-chunks"] * 5
    waiting = [asyncio.ensure_future(stop_reading(name)) for name in names]
    await asyncio.wait(waiting, timeout=100)
    # Each was cut off after five seconds; what waits between the two sides is bounded, not what flows.
    assert process.memory_info().rss - before < 60_000_000
    for task in waiting:
        task.exception()
