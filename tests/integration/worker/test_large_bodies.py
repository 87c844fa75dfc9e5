"""Large bodies on their way through gateway, NATS and worker: what is stored, for how long, and what is left behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.queue.bodies import Bodies, BodyName
from holdfast.queue.connection import connect
from holdfast.queue.publisher import Publisher
from tests.support.nats import NatsServer, nats_server
from tests.support.parts import Part, gateway, worker
from tests.support.raw_function import ANSWER, RawFunction, raw_function
from tests.support.receiver import Receiver, receiver

MIB = 1024 * 1024
# Large begins at 64 KiB here, so that three pieces are a large body.
GATEWAY = {"inline_body_bytes": "65536", "max_body_bytes": str(MIB)}
WORKER = {
    "inline_body_bytes": "65536",
    "max_retry_attempts": "2",
    "initial_retry_wait": "50ms",
    "callback_initial_wait": "50ms",
    "callback_attempts": "2",
    "orphan_body_age": "1s",
}
LARGE = os.urandom(700_000)


@dataclass
class Stage:
    function: RawFunction
    callbacks: Receiver
    nats: NatsServer
    front: Part
    workers: list[Part]
    bodies: Bodies
    client: httpx.AsyncClient

    async def call(self, body: Any, method: str = "POST", path: str = "raw", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(method, f"{self.front.url}/async-function/{path}", content=body, headers=named)

    async def accept(self, body: Any, **headers: str) -> str:
        answer = await self.call(body, **headers)
        assert answer.status_code == 202, answer.text
        return answer.headers["X-Call-Id"]

    async def ended(self, call_id: str) -> dict[str, Any]:
        while (answer := await self.call(b"", "GET", f"{call_id}?wait=30s")).status_code == 503:
            pass  # the gateway has not met the restarted server yet
        document: dict[str, Any] = answer.json()
        return document

    async def stored(self, wanted: Callable[[list[BodyName]], bool]) -> list[BodyName]:
        """The stored bodies, once they are as wanted."""
        async with asyncio.timeout(30):
            while not wanted(names := sorted(await self.bodies.sizes(), key=lambda name: name.number)):
                await asyncio.sleep(0.05)
        return names

    async def send_part(self, head: str, body: bytes) -> asyncio.StreamWriter:
        host, port = self.front.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST /async-function/raw HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body)
        return writer


@asynccontextmanager
async def made(*, workers: int = 1, **environ: str) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(nats_server())
        function = await stack.enter_async_context(raw_function())
        callbacks = await stack.enter_async_context(receiver())
        front = await stack.enter_async_context(gateway(server.url, function.url, **{**GATEWAY, **environ}))
        running = [
            await stack.enter_async_context(worker(server.url, function.url, **{**WORKER, **environ}))
            for _ in range(workers)
        ]
        connection = await stack.enter_async_context(connect(server.settings(), name="test"))
        client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=60))
        bodies = Bodies(connection, Publisher(connection, 5.0))
        yield Stage(function, callbacks, server, front, running, bodies, client)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with made() as stage:
        yield stage


def body_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


def nothing(names: list[BodyName]) -> bool:
    return not names


def large_answer(status: int = 200, body: bytes = LARGE) -> bytes:
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]


async def test_declared_and_chunked_bodies_reach_the_function_whole_and_are_gone_when_it_has_ended(
    stage: Stage,
) -> None:
    for number, body in enumerate((LARGE, in_pieces(LARGE), in_pieces(b"small"), b"", in_pieces(b"")), 1):
        call_id = await stage.accept(body)
        assert (await stage.ended(call_id))["status"] == "succeeded"
        assert len(await stage.function.wait_for(number)) == number
    bodies = [body_of(request) for request in stage.function.requests]
    assert bodies == [LARGE, LARGE, b"small", b"", b""]
    assert all(b"Transfer-Encoding" not in request.partition(b"\r\n\r\n")[0] for request in stage.function.requests)
    await stage.stored(nothing)


async def test_a_body_over_the_limit_is_refused_before_it_is_sent_or_as_it_comes(stage: Stage) -> None:
    host, port = stage.front.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = "POST /async-function/raw HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    writer.write(f"{head}Content-Length: {MIB + 1}\r\n\r\n".encode())
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    chunked = await stage.call(in_pieces(b"x" * (MIB + 1)))
    assert (chunked.status_code, "1048576" in chunked.text) == (413, True)
    await stage.stored(nothing)
    assert (await stage.ended(await stage.accept(b"x" * MIB)))["status"] == "succeeded"


async def test_more_large_bodies_than_may_come_in_at_once_are_refused() -> None:
    async with made(max_uploads="1") as stage:
        writer = await stage.send_part("Content-Length: 700000", LARGE[:600_000])
        await stage.stored(lambda names: len(names) == 1)
        for body in (LARGE, in_pieces(LARGE)):
            refused = await stage.call(body)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert "max_uploads" in refused.text
        assert (await stage.call(b"small")).status_code == 202
        writer.write(LARGE[600_000:])
        (_, request) = await stage.function.wait_for(2)
        assert body_of(request) == LARGE
        writer.close()


async def test_chunked_bodies_that_do_not_end_fill_no_more_memory_than_others_may() -> None:
    async with made(max_held_bytes=str(MIB), inline_body_bytes=str(MIB), workers=0) as stage:
        host, port = stage.front.url.removeprefix("http://").split(":")
        head = b"POST /async-function/raw HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9c400\r\n"
        clients = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        for _, writer in clients:
            # Below what a message takes, and held until it is known to be.
            writer.write(head + LARGE[:600_000])
        answers = [asyncio.ensure_future(reader.readline()) for reader, _ in clients]
        refused, waiting = await asyncio.wait(answers, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert [answer.result().split()[1] for answer in refused] == [b"503"]
        for _, writer in clients:
            writer.close()
        await asyncio.wait(waiting, timeout=30)
        async with asyncio.timeout(30):
            while (await stage.call(LARGE[:600_000])).status_code != 202:
                pass


async def test_a_server_that_restarts_while_a_body_comes_in_costs_a_503_at_most_and_leaves_nothing() -> None:
    async with made() as stage:
        host, port = stage.front.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /async-function/raw HTTP/1.1\r\nHost: x\r\nContent-Length: 700000\r\n\r\n" + LARGE[:600_000]
        )
        await stage.stored(lambda names: len(names) == 1)
        await stage.nats.restart()
        writer.write(LARGE[600_000:])
        async with asyncio.timeout(30):
            status = (await reader.readline()).split()[1]
        assert status in {b"202", b"503"}
        writer.close()
        while (await stage.call(LARGE)).status_code != 202:
            pass
        for request in await stage.function.wait_for(2 if status == b"202" else 1):
            assert body_of(request) == LARGE
        await stage.stored(nothing)


async def test_a_server_that_restarts_while_a_result_is_stored_or_called_back_costs_nothing(stage: Stage) -> None:
    stage.function.answer = lambda _: large_answer()
    ids: set[str] = set()
    for number in (1, 2, 3):
        while (answer := await stage.call(b"x", X_Callback_Url=stage.callbacks.url)).status_code != 202:
            pass
        ids.add(answer.headers["X-Call-Id"])
        await stage.function.wait_for(number)
        await stage.nats.restart()
    await stage.callbacks.wait_for_ids(ids)
    assert {callback.body for callback in stage.callbacks.callbacks} == {LARGE}
    for call_id in ids:
        assert (await stage.ended(call_id))["status"] == "succeeded"


async def test_a_call_whose_worker_is_killed_gets_the_same_body_from_the_next_and_its_half_result_is_swept() -> None:
    async with made(ack_wait="1s", results_ttl="2s") as stage:
        half = large_answer()[:500_000]
        hung = asyncio.Event()
        stage.function.answer = lambda number: half if number == 1 else ANSWER
        stage.function.hang = hung
        call_id = await stage.accept(LARGE)
        await stage.stored(lambda names: [name.kind for name in names] == ["request", "result"])
        stage.workers[0].process.kill()
        hung.set()
        async with worker(stage.nats.url, stage.function.url, **WORKER, ack_wait="1s", results_ttl="2s"):
            assert (await stage.ended(call_id))["status"] == "succeeded"
            assert [body_of(request) for request in stage.function.requests] == [LARGE, LARGE]
            await stage.stored(nothing)


async def test_a_client_that_leaves_midway_leaves_nothing_behind(stage: Stage) -> None:
    for head in ("Content-Length: 700000", "Transfer-Encoding: chunked"):
        begin = LARGE[:600_000] if head.startswith("Content") else b"927c0\r\n" + LARGE[:600_000]
        writer = await stage.send_part(head, begin)
        await stage.stored(lambda names: len(names) == 1)
        writer.close()
        await stage.stored(nothing)
    assert not stage.function.requests


async def test_what_a_killed_gateway_had_begun_is_swept_and_what_waits_is_not() -> None:
    async with made() as stage:
        waiting = await stage.accept(LARGE, X_Delay="6s")
        writer = await stage.send_part("Content-Length: 700000", LARGE[:600_000])
        await stage.stored(lambda names: len(names) == 2)
        stage.front.process.kill()
        (kept,) = await stage.stored(lambda names: len(names) == 1)
        assert kept.call_id == waiting
        writer.close()
        (request,) = await stage.function.wait_for(1)
        assert body_of(request) == LARGE
        await stage.stored(nothing)


async def test_a_retried_call_gets_the_same_body_and_a_large_result_goes_with_its_record() -> None:
    async with made(results_ttl="3s") as stage:
        stage.function.answer = lambda number: large_answer(500 if number == 1 else 200, LARGE[number:])
        call_id = await stage.accept(LARGE, X_Callback_Url=stage.callbacks.url)
        document = await stage.ended(call_id)
        assert (document["status"], [attempt["status"] for attempt in document["attempts"]]) == (
            "succeeded",
            [500, 200],
        )
        assert document["result"]["bytes"] == len(LARGE) - 2
        assert [body_of(request) for request in stage.function.requests] == [LARGE, LARGE]
        (callback,) = await stage.callbacks.wait_for(1)
        assert callback.body == LARGE[2:]
        result = await stage.call(b"", "GET", f"{call_id}/result")
        assert (result.status_code, result.content) == (200, LARGE[2:])
        await stage.stored(nothing)
        assert (await stage.call(b"", "GET", f"{call_id}/result")).status_code == 410


async def test_a_key_knows_a_large_body_again_and_stores_it_once(stage: Stage) -> None:
    headers = {"Idempotency_Key": "large", "X_Delay": "60s"}
    ids = {await stage.accept(body, **headers) for body in (LARGE, in_pieces(LARGE))}
    assert len(ids) == 1
    other = await stage.call(LARGE[1:], **headers)
    assert other.status_code == 422
    await stage.stored(lambda names: len(names) == 1)
    (call_id,) = ids
    assert (await stage.call(b"", "DELETE", call_id)).status_code == 202
    await stage.stored(nothing)


async def test_a_dead_letter_keeps_its_large_body_until_it_is_replayed_or_dropped(stage: Stage) -> None:
    stage.function.answer = lambda _: large_answer(500)
    first, second = [await stage.accept(LARGE) for _ in range(2)]
    for call_id in (first, second):
        assert (await stage.ended(call_id))["status"] == "failed"
    shown = (await stage.client.get(f"{stage.front.url}/system/dead-letters/{first}")).json()
    assert (shown["request"]["bytes"], shown["request"]["sha256"]) == (len(LARGE), hashlib.sha256(LARGE).hexdigest())
    assert shown["answer"]["bytes"] == len(LARGE)

    stage.function.answer = lambda _: ANSWER
    replay = await stage.client.post(f"{stage.front.url}/system/dead-letters/replay", json={"id": first})
    assert replay.status_code == 200, replay.text
    assert (await stage.ended(first))["status"] == "succeeded"
    assert body_of(stage.function.requests[-1]) == LARGE
    dropped = await stage.client.post(f"{stage.front.url}/system/dead-letters/drop", json={"id": second})
    assert dropped.status_code == 200
    # What remains are results: of both calls, for as long as their records.
    await stage.stored(lambda names: all(name.kind == "result" for name in names))


async def test_a_callback_that_was_given_up_brings_its_large_body_when_it_is_replayed(stage: Stage) -> None:
    stage.function.answer = lambda _: large_answer()
    stage.callbacks.answer = 503
    call_id = await stage.accept(b"x", X_Callback_Url=stage.callbacks.url)
    await stage.callbacks.wait_for(2)
    while (await stage.ended(call_id))["callback"]["status"] == "pending":
        pass
    stage.callbacks.answer = 200
    replay = await stage.client.post(f"{stage.front.url}/system/dead-letters/replay", json={"id": call_id})
    assert replay.status_code == 200, replay.text
    assert [callback.body for callback in await stage.callbacks.wait_for(3)] == [LARGE] * 3
    assert len(stage.function.requests) == 1


async def test_results_have_room_for_so_many_bytes_and_the_oldest_go_first() -> None:
    async with made(results_max_bytes=str(2 * MIB)) as stage:
        stage.function.answer = lambda _: large_answer()
        ids = [await stage.accept(b"x") for _ in range(4)]
        for call_id in ids:
            assert (await stage.ended(call_id))["status"] == "succeeded"
        left = await stage.stored(lambda names: len(names) == 2)
        statuses = [(await stage.call(b"", "GET", f"{call_id}/result")).status_code for call_id in ids]
        assert sorted(statuses) == [200, 200, 410, 410]
        assert {name.call_id for name in left} == {
            call_id for call_id, status in zip(ids, statuses, strict=True) if status == 200
        }


async def test_a_caller_that_waits_is_sent_a_large_result(stage: Stage) -> None:
    stage.function.answer = lambda _: large_answer()
    answer = await stage.client.post(
        f"{stage.front.url}/function/raw", content=LARGE, headers={"Prefer": "respond-async, wait=30"}
    )
    assert (answer.status_code, answer.content) == (200, LARGE)
    assert answer.headers["Preference-Applied"] == "respond-async, wait=30"


async def test_a_function_that_answers_too_much_or_breaks_off_fails_its_call_and_leaves_nothing() -> None:
    async with made(max_result_bytes="500000") as stage:
        half = large_answer(body=LARGE[:400_000])[:300_000]
        for answer, expected in ((large_answer(), "500000"), (half, "ended without an answer")):
            stage.function.answer = lambda _, answer=answer: answer  # type: ignore[misc]
            document = await stage.ended(await stage.accept(b"x", X_Timeout="20s"))
            assert (document["status"], expected in document["reason"]) == ("failed", True), document["reason"]
        await stage.stored(nothing)


async def test_the_gateways_memory_does_not_grow_with_the_bodies_that_pass() -> None:
    def resident_bytes(part: Part) -> int:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{part.process.pid}/status").read_text())
        assert found is not None
        return int(found.group(1)) * 1024

    async def twenty_mib() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * MIB

    async with made(workers=0, max_body_bytes=str(64 * MIB)) as stage:
        await stage.accept(LARGE)
        before = resident_bytes(stage.front)
        headers = {"Content-Length": str(20 * MIB)}
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(stage.accept(twenty_mib(), **headers))
        assert resident_bytes(stage.front) - before < 60 * MIB
