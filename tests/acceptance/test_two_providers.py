"""Two `serve --nats` with one queue and functions of their own: each call is run by a worker of its own provider."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from holdfast.function import FunctionRef
from holdfast.invocation import CallId, Invocation
from holdfast.queue.connection import connect
from holdfast.queue.message import to_publish
from holdfast.queue.publisher import Publisher
from tests.support.nats import NatsServer, nats_server
from tests.support.serving import Serving, serving

CALLS = 200


class Two(NamedTuple):
    nats: NatsServer
    one: Serving
    other: Serving


@asynccontextmanager
async def served(folder: Path, name: str, nats: NatsServer, functions: dict[str, str]) -> AsyncIterator[Serving]:
    (folder / name).mkdir(exist_ok=True)
    stack = {"functions": {function: {"fprocess": process, "image": "i"} for function, process in functions.items()}}
    (folder / name / "stack.yml").write_text(json.dumps(stack))
    options = ("--nats", nats.url, "--stack", str(folder / name / "stack.yml"), "--no-auth")
    async with serving(folder / name, *options, environ={"initial_retry_wait": "200ms"}) as running:
        for function in functions:
            await running.call(f"/system/function/{function}?wait=30s", method="GET")
        yield running


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    async with (
        nats_server() as nats,
        served(tmp_path, "one", nats, {"here": "cat", "both": "echo one"}) as one,
        served(tmp_path, "other", nats, {"there": "cat", "both": "echo other"}) as other,
    ):
        yield Two(nats, one, other)


async def ended(server: Serving, call_id: str) -> tuple[str, bytes]:
    """Status and result of a call once it has ended."""
    record = (await server.call(f"/async-function/{call_id}?wait=30s", method="GET")).json()
    result = await server.call(f"/async-function/{call_id}/result", method="GET")
    return record["status"], result.content


async def all_ended(server: Serving, ids: list[str]) -> Counter[tuple[str, bytes]]:
    return Counter(await asyncio.gather(*(ended(server, call_id) for call_id in ids)))


async def accept(server: Serving, function: str, count: int) -> list[str]:
    return list(await asyncio.gather(*(server.accept(function, b"hello") for _ in range(count))))


async def test_every_call_is_run_by_the_provider_of_the_gateway_that_accepted_it(two: Two) -> None:
    await asyncio.gather(two.one.logged("two providers"), two.other.logged("two providers"))
    here, there = await asyncio.gather(accept(two.one, "here", CALLS), accept(two.other, "there", CALLS))
    succeeded = ("succeeded", b"hello")
    assert await all_ended(two.one, here) == {succeeded: CALLS}
    assert await all_ended(two.other, there) == {succeeded: CALLS}
    mine, theirs = await asyncio.gather(accept(two.one, "both", 50), accept(two.other, "both", 50))
    assert await all_ended(two.one, mine) == {("succeeded", b"one\n"): 50}
    assert await all_ended(two.other, theirs) == {("succeeded", b"other\n"): 50}


async def test_the_warning_names_both_providers(two: Two) -> None:
    ids, urls = [], []
    for server in (two.one, two.other):
        info = (await server.call("/system/info", method="GET")).json()
        ids.append(info["provider"]["id"])
        urls.append(server.ready["provider"])
    for server in (two.one, two.other):
        await server.logged("two providers")
        (line, *_) = [line for line in server.log.splitlines() if "two providers" in line]
        for word in (*ids, *urls):
            assert word in line


async def test_calls_wait_for_a_provider_whose_workers_are_away(tmp_path: Path) -> None:
    async with nats_server() as nats, served(tmp_path, "one", nats, {"here": "cat"}) as one:
        async with served(tmp_path, "other", nats, {"there": "cat"}) as other:
            await asyncio.gather(one.logged("two providers"), other.logged("two providers"))
            assert await all_ended(one, await accept(other, "there", 1)) == {("succeeded", b"hello"): 1}
            # Its workers go first; what its gateway accepts now stands in the one line of all, where others take it.
            other.kill("worker")
            waiting = await accept(other, "there", 5)
            provider = (await other.call("/system/info", method="GET")).json()["provider"]["id"]
            other.process.kill()
            await other.process.wait()
        async with asyncio.timeout(20):
            while not (why := (await one.call(f"/async-function/{waiting[0]}", method="GET")).json()["waiting"]):
                pass
            while why["reason"] != "no worker":
                why = (await one.call(f"/async-function/{waiting[0]}", method="GET")).json()["waiting"]
        assert f"no worker of its provider {provider}" in why["text"]
        async with served(tmp_path, "other", nats, {"there": "cat"}):
            assert await all_ended(one, waiting) == {("succeeded", b"hello"): 5}


async def test_what_no_provider_has_any_more_ends_in_an_honest_404(two: Two) -> None:
    await asyncio.gather(two.one.logged("two providers"), two.other.logged("two providers"))
    (call_id,) = [await two.one.accept("here", b"x", X_Delay="2s")]
    removed = await two.one.call("/system/functions", b'{"functionName": "here"}', method="DELETE")
    assert removed.status_code == 202
    status, result = await ended(two.other, call_id)
    assert status == "failed"
    assert b"no longer deployed" in result


async def test_a_call_of_an_older_gateway_finds_the_provider_that_has_its_function(two: Two) -> None:
    await asyncio.gather(two.one.logged("two providers"), two.other.logged("two providers"))

    ids = [CallId(f"old-{number}") for number in range(40)]
    request = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    async with connect(two.nats.settings(), name="older gateway") as connection:
        publisher = Publisher(connection, 5)
        for number, call_id in enumerate(ids):
            ref = FunctionRef(("here", "there")[number % 2])
            await publisher.confirm(*to_publish("faas-request", Invocation(call_id, call_id, ref, 1, None, request)))
    assert await all_ended(two.one, list(ids)) == {("succeeded", b"hello"): 40}


async def test_a_callback_to_a_function_that_is_tried_again_stays_with_its_provider(tmp_path: Path) -> None:
    # Both have a function `sink`: the one's takes what comes, the other's writes down that it was run and fails twice.
    runs = tmp_path / "runs"
    runs.touch()
    failing = f"sh -c 'cat >/dev/null; echo x >> {runs}; [ $(wc -l < {runs}) -gt 30 ]'"
    async with (
        nats_server() as nats,
        served(tmp_path, "one", nats, {"sink": "cat"}) as one,
        served(tmp_path, "other", nats, {"sink": failing, "there": "cat"}) as other,
    ):
        await asyncio.gather(one.logged("two providers"), other.logged("two providers"))
        ids = [
            (await other.call("/async-function/there", b"x", {"X-Callback-Url": "/function/sink"})).headers["X-Call-Id"]
            for _ in range(10)
        ]

        async def told(call_id: str) -> int:
            async with asyncio.timeout(60):
                while True:
                    record = (await other.call(f"/async-function/{call_id}?wait=10s", method="GET")).json()
                    if record["callback"]["status"] == "delivered":
                        attempts: int = record["callback"]["attempts"]
                        return attempts
                    await asyncio.sleep(0.1)

        attempts = sum([await told(call_id) for call_id in ids])
        assert len(runs.read_text().splitlines()) == attempts > 30
