"""Calls that carry one `X-Call-Id`, as those of a chain do: the first has it, each later one has an id of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.metrics import metrics, metrics_when
from tests.support.receiver import Receiver, receiver
from tests.support.serving import Serving, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, "--no-auth", environ={"max_retry_attempts": "1"}) as started:
        yield started


@pytest.fixture
async def callbacks() -> AsyncIterator[Receiver]:
    async with receiver() as started:
        yield started


async def record(server: Serving, call_id: str, query: str = "") -> dict[str, Any]:
    answer = await server.call(f"/async-function/{call_id}{query}", method="GET")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def result(server: Serving, call_id: str) -> bytes:
    return (await server.call(f"/async-function/{call_id}/result", method="GET")).content


async def accepted(server: Serving, function: str, body: bytes = b"", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await server.call(f"/async-function/{function}", body, named)
    assert answer.status_code == 202, answer.text
    return answer


def own_id(answer: httpx.Response) -> str:
    """The id of the one call that was accepted."""
    return str(answer.headers["Location"]).removeprefix("/async-function/")


async def cancelled(server: Serving, call_id: str) -> int:
    async with asyncio.timeout(20):
        return (await server.call(f"/async-function/{call_id}", method="DELETE")).status_code


async def test_the_first_call_with_an_id_has_it_and_a_later_one_gets_its_own(
    server: Serving, callbacks: Receiver
) -> None:
    first, later = [await accepted(server, "env", X_Call_Id="order-7", X_Callback_Url=callbacks.url) for _ in range(2)]
    assert [answer.headers["X-Call-Id"] for answer in (first, later)] == ["order-7", "order-7"]
    assert own_id(first) == "order-7"
    assert uuid.UUID(own_id(later)).version == 8
    for callback in await callbacks.wait_for(2):
        assert callback["X-Call-Id"] == "order-7"
        assert b"Http_X_Call_Id=order-7\n" in callback.body
    document = await record(server, "order-7", "?wait=20s")
    assert (document["id"], document["x_call_id"], "chain" in document["links"]) == ("order-7", "order-7", False)
    assert document["later"] == {"calls": [f"/async-function/{own_id(later)}"], "more": 0}
    document = await record(server, own_id(later), "?wait=20s")
    assert (document["id"], document["x_call_id"]) == (own_id(later), "order-7")
    assert (document["links"]["chain"], document["later"]) == ("/async-function/order-7", None)


async def test_whoever_waits_for_a_chain_waits_for_its_first_call_and_finds_the_next(server: Serving) -> None:
    call_id = await server.accept("echo", b"1s", X_Callback_Url="/async-function/sleep?duration=1500ms")
    document = await record(server, call_id, "?wait=30s")
    assert (document["function"], document["status"]) == ("echo", "succeeded")
    (following,) = (await record(server, call_id))["later"]["calls"]
    document = (await server.call(f"{following}?wait=30s", method="GET")).json()
    assert (document["function"], document["status"], document["x_call_id"]) == ("sleep", "succeeded", call_id)
    assert (await record(server, call_id))["function"] == "echo"


async def test_the_call_of_a_chain_that_runs_is_stopped_by_the_id_of_the_chain(server: Serving) -> None:
    call_id = await server.accept("echo", X_Callback_Url="/async-function/sleep?duration=60s")
    async with asyncio.timeout(20):
        while (later := (await record(server, call_id))["later"]) is None:
            await asyncio.sleep(0.02)
        following = later["calls"][0].rpartition("/")[2]
        while (await record(server, following))["status"] != "running":
            await asyncio.sleep(0.02)
    assert await cancelled(server, call_id) == 202
    document = await record(server, following, "?wait=20s")
    assert (document["status"], document["reason"]) == ("cancelled", "cancelled while it was run")
    assert (await record(server, call_id, "?wait=20s"))["status"] == "succeeded"
    assert await cancelled(server, call_id) == 409
    await metrics_when(server, lambda now: now.accepted == 2 and now.unaccounted == 0)


async def test_a_stranger_who_knows_an_id_replaces_nothing_of_its_call(server: Serving) -> None:
    delayed = await server.accept("echo", b"mine", X_Delay="1h")
    ended = await server.accept("echo", b"mine", Idempotency_Key="order-1001")
    running = await server.accept("sleep?duration=60s", b"mine")
    own = await server.accept("echo", b"mine", X_Call_Id="order-1001")
    for call_id in (ended, own):
        await record(server, call_id, "?wait=20s")
    for call_id in (delayed, ended, running, own):
        strangers = await accepted(server, "chaos?body=stranger", X_Call_Id=call_id)
        assert (await record(server, own_id(strangers), "?wait=20s"))["status"] == "succeeded"
        document = await record(server, call_id)
        assert (document["id"], document["function"]) == (call_id, "sleep" if call_id == running else "echo")
    assert (await record(server, delayed))["status"] == "scheduled"
    assert [await result(server, call_id) for call_id in (ended, own)] == [b"mine", b"mine"]
    again = await accepted(server, "echo", b"mine", Idempotency_Key="order-1001")
    assert (again.headers["X-Call-Id"], again.headers["Idempotent-Replayed"]) == (ended, "true")
    assert await cancelled(server, running) == 202
    assert (await record(server, running, "?wait=20s"))["status"] == "cancelled"


async def test_of_calls_that_come_at_once_with_one_id_exactly_one_has_it(tmp_path: Path) -> None:
    async with serving(tmp_path, "--gateways", "2") as server:
        answers = await asyncio.gather(*(accepted(server, "echo", b"%d" % n, X_Call_Id="same") for n in range(20)))
        assert len({own_id(answer) for answer in answers}) == 20
        (first,) = [number for number, answer in enumerate(answers) if own_id(answer) == "same"]
        await metrics_when(server, lambda now: now.total("holdfast_calls_ended_total", status="succeeded") == 20)
        for number, answer in enumerate(answers):
            assert await result(server, own_id(answer)) == b"%d" % number
        document = await record(server, "same")
        assert (document["id"], len(document["later"]["calls"]), document["later"]["more"]) == ("same", 19, 0)
        assert await result(server, "same") == b"%d" % first
        assert (await metrics(server)).unaccounted == 0


async def test_calls_of_one_id_that_wait_are_cancelled_together_and_each_is_counted(server: Serving) -> None:
    await server.call("/system/queues/faas-request/pause")
    answers = [await accepted(server, "echo", body, X_Call_Id="together") for body in (b"one", b"two", b"three")]
    assert await cancelled(server, own_id(answers[1])) == 202
    assert [(await record(server, own_id(answer)))["status"] for answer in answers] == [
        *("waiting", "cancelled", "waiting")
    ]
    assert await cancelled(server, "together") == 202
    assert await cancelled(server, "together") == 409
    await server.call("/system/queues/faas-request/resume")
    found = await metrics_when(server, lambda now: now.accepted == 3 and now.unaccounted == 0)
    assert found.total("holdfast_calls_ended_total", status="cancelled") == 3


async def test_an_id_whose_call_was_cancelled_stays_its_own(server: Serving) -> None:
    headers = {"X_Call_Id": "mine", "X_Delay": "1h"}
    await server.accept("echo", b"", **headers)
    assert await cancelled(server, "mine") == 202
    later = await accepted(server, "echo", b"", **headers)
    assert (await record(server, "mine"))["status"] == "cancelled"
    assert (await record(server, own_id(later)))["status"] == "scheduled"
    assert await cancelled(server, "mine") == 202
    assert (await record(server, own_id(later)))["status"] == "cancelled"
    await metrics_when(server, lambda now: now.total("holdfast_calls_ended_total", status="cancelled") == 2)


async def test_an_id_whose_record_has_expired_can_be_had_again(tmp_path: Path) -> None:
    async with serving(tmp_path, "--no-auth", environ={"results_ttl": "1s"}) as server:
        await server.accept("echo", X_Call_Id="old")
        async with asyncio.timeout(30):
            while (await server.call("/async-function/old", method="GET")).status_code != 410:
                await asyncio.sleep(0.1)
        again = await accepted(server, "echo", X_Call_Id="old", X_Delay="1h")
        assert own_id(again) == "old"
        assert (await record(server, "old"))["status"] == "scheduled"
        assert await cancelled(server, "old") == 202


async def test_an_id_of_a_synchronous_call_shows_the_calls_that_carried_it_on(server: Serving) -> None:
    call_id = (await server.call("/function/echo", b"x")).headers["X-Call-Id"]
    one = await accepted(server, "echo", b"one", X_Call_Id=call_id)
    two = await accepted(server, "echo", b"two", X_Call_Id=call_id)
    document = await record(server, call_id, "?wait=20s")
    assert (document["id"], document["x_call_id"]) == (own_id(one), call_id)
    assert document["later"] == {"calls": [f"/async-function/{own_id(two)}"], "more": 0}
    assert await result(server, call_id) == b"one"


async def test_large_bodies_of_calls_with_one_id_are_each_their_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        bodies = [bytes([letter]) * 3_000_000 for letter in b"abc"]
        answers = [await accepted(server, "echo", body, X_Call_Id="large") for body in bodies]
        answers.append(await accepted(server, "echo", bodies[0], X_Call_Id=own_id(answers[1])))
        for answer, body in zip(answers, [*bodies, bodies[0]], strict=True):
            assert (await record(server, own_id(answer), "?wait=30s"))["status"] == "succeeded"
            assert await result(server, own_id(answer)) == body


async def test_a_caller_that_waits_gets_the_answer_of_its_own_call(server: Serving) -> None:
    headers = {"Prefer": "respond-async, wait=20", "X-Call-Id": "asked"}
    for body in (b"one", b"two"):
        answer = await server.call("/function/echo", body, headers)
        assert (answer.status_code, answer.content, answer.headers["X-Call-Id"]) == (200, body, "asked")


async def test_the_list_shows_both_ids_of_a_call_that_came_with_anothers(server: Serving) -> None:
    await server.accept("echo", X_Call_Id="listed")
    later = await accepted(server, "echo", X_Call_Id="listed")
    for call_id in ("listed", own_id(later)):
        await record(server, call_id, "?wait=20s")
    listed = (await server.call("/system/calls", method="GET")).json()["calls"]
    assert {(call["id"], call["x_call_id"]) for call in listed} == {("listed", "listed"), (own_id(later), "listed")}
