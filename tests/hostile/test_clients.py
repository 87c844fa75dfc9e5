"""Clients that are many, slow, or half gone: each gets its own answers or none, and costs nothing once it has left."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import psutil
import pytest
import pytest_asyncio

from tests.hostile.case import CHUNKED, GET, HI, POST, chunked, post
from tests.hostile.conftest import Stage
from tests.hostile.mirror import fingerprint, mirror
from tests.hostile.readings import Answer, as_client
from tests.hostile.wire import wire
from tests.support.nats import nats_server
from tests.support.parts import gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Sent(NamedTuple):
    """A request, and what tells its answer from all others."""

    data: bytes
    method: bytes
    status: int
    body: bytes | None
    call_id: bytes | None = None


def _some(dice: random.Random, client: int, number: int) -> Sent:
    rest = b"/%d/%d" % (client, number)
    body = dice.randbytes(dice.choice([0, 1, 50, 3000]))
    call_id = b"client-%d-%d" % (client, number)
    path = b"/function/mirror" + rest
    named = b"X-Call-Id: " + call_id
    mirrored = fingerprint(b"POST", rest, body)
    match dice.randrange(8):
        case 0:
            return Sent(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path, b"GET", 200, fingerprint(b"GET", rest, b""))
        case 1:
            return Sent(b"HEAD %b HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % (path, named), b"HEAD", 200, b"", call_id)
        case 2:
            wire_body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:7], body[7:]) if p) + b"0\r\n\r\n"
            data = b"POST %b HTTP/1.1\r\nHost: h\r\n%b\r\n%b%b\r\n%b" % (path, named, CHUNKED, b"X: 1\r\n", wire_body)
            return Sent(data, b"POST", 200, mirrored, call_id)
        case 3:
            return Sent(post(named, body=body, target=b"/async-function/mirror"), b"POST", 202, b"", call_id)
        case 4:
            return Sent(post(body=body, target=b"/function/nobody"), b"POST", 404, None)
        case 5:
            return Sent(post(b"X-Call-Id: a/b", body=body, target=path), b"POST", 400, None)
        case _:
            return Sent(post(named, body=body, target=path), b"POST", 200, mirrored, call_id)


async def _talk(port: int, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - for a test that can be repeated
    requests = [_some(dice, seed, number) for number in range(30)]
    data = b"".join(request.data for request in requests)
    cuts = sorted(dice.sample(range(1, len(data)), 25))
    async with wire(port) as connection:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            connection.send(data[start:end])
            await asyncio.sleep(0)  # so that other clients' bytes come between
        answers = await connection.answers(len(requests), [request.method for request in requests])
    for request, answer in zip(requests, answers, strict=True):
        assert answer.status == request.status
        assert request.body in (None, answer.body), "a client got another's answer"
        assert request.call_id in (None, answer.first(b"x-call-id"))


async def test_no_client_sees_anothers_answer(stage: Stage) -> None:
    async with asyncio.TaskGroup() as clients:
        for seed in range(16):
            clients.create_task(_talk(stage.port, seed))
    assert not stage.function.faults


async def test_clients_that_leave_at_any_byte_harm_nobody(stage: Stage) -> None:
    data = post(b"X-A: b", body=b"hello") + POST + CHUNKED + b"\r\n" + HI
    process = psutil.Process(stage.gateway.process.pid)

    async def leave(at: int) -> None:
        async with wire(stage.port) as connection:
            connection.send(data[:at])

    before = process.num_fds()
    for at in range(0, len(data), 3):
        async with asyncio.TaskGroup() as clients:
            clients.create_task(leave(at))
            clients.create_task(leave(at + 1))
    await _talk(stage.port, 99)
    # Connections to the function that nobody waits for any more are closed, those of the clients as well.
    async with asyncio.timeout(30):
        while process.num_fds() > before + 16:
            await _talk(stage.port, 100)


@pytest.mark.parametrize(
    ("data", "status"),
    [(post(target=b"/function/%"), 400), (POST + b"X : a\r\n\r\n", 400), (GET + b"X-Timeout: x\r\n\r\n", 400)],
)
async def test_what_is_answered_at_once_is_answered_to_a_client_that_has_ended_its_side(
    stage: Stage, data: bytes, status: int
) -> None:
    async with wire(stage.port) as connection:
        connection.send(data)
        connection.end()
        await connection.until_closed()
    answers, stray = as_client(connection.received, [], ended=True)
    assert [answer.status for answer in answers] == [status]
    assert not stray


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="strict")
async def _strict() -> AsyncIterator[Stage]:
    """A gateway with little patience and few connections."""
    little = {"head_timeout": "1s", "read_timeout": "1s", "idle_timeout": "2s", "max_connections": "40"}
    async with (
        nats_server() as nats,
        mirror() as function,
        gateway(nats.url, function.url, **little) as front,
    ):
        yield Stage(front, function)


async def _until_closed(port: int, data: bytes, *, trickle: bytes = b"") -> list[Answer]:
    async with wire(port) as connection:
        connection.send(data)
        reading = asyncio.ensure_future(connection.until_closed())
        while not reading.done():
            if trickle:
                connection.send(trickle)
            await asyncio.wait([reading], timeout=0.1)
        await reading
    return as_client(connection.received, [], ended=True)[0]


# Headers that somebody here reads, and values that are slow to read for whoever reads them carelessly.
READ = (
    b"Host Connection Expect Transfer-Encoding Content-Length Upgrade X-Call-Id X-Timeout X-Delay X-Expires-After "
    b"Idempotency-Key X-Callback-Url X-Failure-Callback-Url X-Holdfast-Depth Prefer X-Forwarded-For Authorization "
    b"Origin Sec-Fetch-Site Accept Cookie"
).split()
SLOW_TO_READ = [b'"' + b'\\"' * 50_000, b"9" * 100_000, b"1h" * 50_000, b"a." * 50_000, b"a,=" * 30_000, b"((" * 50_000]


async def test_no_header_takes_the_time_of_everybody_else(stage: Stage) -> None:
    async def ask(name: bytes, value: bytes) -> None:
        for target in (
            b"/function/mirror",
            b"/async-function/mirror",
            b"/system/functions",
            b"/async-function/an-id?wait=0s",
        ):
            async with wire(stage.port) as connection:
                connection.send(post(b"%b: %b" % (name, value), b"Connection: close", target=target))
                await connection.answers(1, [])

    began = time.monotonic()
    for name in READ:
        async with asyncio.TaskGroup() as clients:
            for value in SLOW_TO_READ:
                clients.create_task(ask(name, value))
    # Five hundred requests of 100 KB: seconds. One header that is read in quadratic time takes minutes.
    assert time.monotonic() - began < 100


class Slow(NamedTuple):
    """What a client sends before it pauses, and in its pause; what it is told. None: nothing."""

    data: bytes
    trickle: bytes
    status: int | None
    stored: int | None = None
    """The status on the asynchronous path, where it differs."""


SLOW = {
    "a client that says nothing": Slow(b"", b"", None),
    "blank lines, for ever": Slow(b"", b"\r\n", None),
    "half a request line": Slow(b"POST /function/mirror", b"", 408),
    "a request line that grows slowly": Slow(b"POST /function/mirror/", b"a", 408),
    "headers one by one": Slow(POST, b"X: a\r\n", 408),
    "a body that does not come": Slow(POST + b"Content-Length: 5\r\n\r\n", b"", 408),
    "a large body that does not come": Slow(POST + b"Content-Length: 90000000\r\n\r\n", b"", 408, 413),
    "chunks that do not come": Slow(POST + CHUNKED + b"\r\n", b"", 408),
    "trailers that do not end": Slow(POST + CHUNKED + b"\r\n2\r\nhi\r\n0\r\n", b"", 408),
    "no body after the go-ahead": Slow(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", b"", 408),
    "nothing behind an answered request": Slow(post(body=b"hi"), b"", 200, 202),
    "half a head behind an answered request": Slow(post(body=b"hi") + POST, b"", 408),
}


async def test_a_slow_client_is_ended_with_a_word_that_says_why(strict: Stage) -> None:
    async def told(slow: Slow, path: bytes) -> int | None:
        answers = await _until_closed(strict.port, slow.data.replace(b" /function/", path), trickle=slow.trickle)
        return next((answer.status for answer in reversed(answers) if answer.status >= 200), None)

    async with asyncio.timeout(60), asyncio.TaskGroup() as clients:
        sync = {name: clients.create_task(told(slow, b" /function/")) for name, slow in SLOW.items()}
        stored = {name: clients.create_task(told(slow, b" /async-function/")) for name, slow in SLOW.items()}
    assert {name: task.result() for name, task in sync.items()} == {name: slow.status for name, slow in SLOW.items()}
    expected = {name: slow.stored or slow.status for name, slow in SLOW.items()}
    assert {name: task.result() for name, task in stored.items()} == expected


async def test_a_flood_of_slow_clients_leaves_room_for_others_once_they_are_ended(strict: Stage) -> None:
    slow = [asyncio.ensure_future(_until_closed(strict.port, POST)) for _ in range(60)]
    statuses = [(await answers)[0].status for answers in slow]
    assert set(statuses) == {408, 503}
    assert statuses.count(503) >= 20
    assert (await _until_closed(strict.port, post(b"Connection: close")))[0].status == 200


async def test_floods_do_not_make_the_gateway_grow(stage: Stage) -> None:
    process = psutil.Process(stage.gateway.process.pid)

    async def flood(data: bytes) -> None:
        async with wire(stage.port) as connection:
            connection.send(data)
            await connection.until_closed()

    floods = [
        POST + b"X: a\r\n" * 300_000,
        POST + b"X: " + b"a" * 2_000_000,
        b"POST /function/mirror/" + b"a" * 2_000_000,
        chunked(b"1;" + b"a" * 2_000_000),
        chunked(b"2\r\nhi\r\n0\r\n" + b"X: a\r\n" * 300_000),
        b"\x00" * 2_000_000,
    ]
    for data in floods:
        await flood(data)
    before = process.memory_info().rss
    for _ in range(5):
        async with asyncio.TaskGroup() as clients:
            for data in floods * 2:
                clients.create_task(flood(data))
    # Twelve at a time of 2 MB each: what stays is far less than what was sent, 120 MB.
    assert process.memory_info().rss - before < 40_000_000
