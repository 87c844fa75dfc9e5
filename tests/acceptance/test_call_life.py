"""The life of a call as its caller can see it: records, results, retries, cancelling, callbacks that fail."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.receiver import Receiver, receiver
from tests.support.serving import Serving, serving

PAIR = ("user", "password")
ENVIRON = {"initial_retry_wait": "500ms", "max_retry_attempts": "3", "callback_initial_wait": "100ms"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, environ=ENVIRON) as started:
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


async def ended(server: Serving, call_id: str) -> dict[str, Any]:
    document = await record(server, call_id, "?wait=30s")
    assert document["status"] in {"succeeded", "failed", "cancelled", "expired"}
    return document


async def test_the_202_says_where_the_record_is_and_the_record_where_the_result_is(server: Serving) -> None:
    accepted = await server.call("/async-function/echo", b"ba\x00nner", {"Content-Type": "application/x-banner"})
    document = (await server.client.get(server.url + accepted.headers["Location"] + "?wait=10s")).json()
    assert document["id"] == accepted.headers["X-Call-Id"]
    assert (document["function"], document["namespace"], document["queue"]) == ("echo", "openfaas-fn", "faas-request")
    assert document["status"] == "succeeded"
    assert document["accepted_at"] < document["started_at"] < document["finished_at"]
    (attempt,) = document["attempts"]
    assert attempt["status"] == 200
    assert attempt["duration_seconds"] > 0
    assert document["callback"] is None
    result = await server.client.get(server.url + document["links"]["result"])
    assert (result.status_code, result.content) == (200, b"ba\x00nner")
    assert result.headers["Content-Type"] == "application/x-banner"
    assert result.headers["X-Call-Id"] == document["id"]


async def test_a_long_call_is_seen_running_and_asking_waits_for_its_end(server: Serving) -> None:
    call_id = await server.accept("sleep?duration=2s")
    while (document := await record(server, call_id))["status"] == "waiting":
        pass
    assert document["status"] == "running"
    no_result = await server.call(f"/async-function/{call_id}/result", method="GET")
    assert (no_result.status_code, "running" in no_result.text) == (409, True)
    assert (await record(server, call_id, "?wait=100ms"))["status"] == "running"
    began = time.monotonic()
    assert (await ended(server, call_id))["status"] == "succeeded"
    assert time.monotonic() - began < 10


async def test_two_failures_and_a_success_are_three_attempts_and_one_callback(
    server: Serving, callbacks: Receiver
) -> None:
    await server.call("/function/chaos/set", json.dumps({"status": 429, "times": 2}).encode())
    call_id = await server.accept("chaos", X_Callback_Url=callbacks.url)
    document = await ended(server, call_id)
    assert document["status"] == "succeeded"
    assert [attempt["status"] for attempt in document["attempts"]] == [429, 429, 200]
    assert document["callback"]["status"] == "delivered"
    starts = [attempt["started_at"] for attempt in document["attempts"]]
    assert starts == sorted(starts)
    (callback,) = callbacks.callbacks
    assert callback["X-Function-Status"] == "200"
    assert callback["X-Call-Id"] == call_id
    assert (callback["X-Retry"], callback["X-Retry-Max"]) == ("2", "2")


async def test_the_events_of_a_call_show_each_change_until_its_end(server: Serving) -> None:
    await server.call(
        "/function/chaos/set", json.dumps({"status": 503, "times": 1, "headers": {"Retry-After": "4"}}).encode()
    )
    call_id = await server.accept("chaos")
    async with server.client.stream("GET", f"{server.url}/async-function/{call_id}/events") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        seen = [line.removeprefix("event: ") async for line in answer.aiter_lines() if line.startswith("event: ")]
    # A run of more than a second shows as `running`: on a busy machine the second one may be such.
    assert [event for event in seen if event != "running"][-2:] == ["retrying", "succeeded"]


async def test_an_exhausted_call_fails_and_the_last_answer_is_called_back(server: Serving, callbacks: Receiver) -> None:
    call_id = await server.accept("chaos?status=500&body=broken", X_Callback_Url=callbacks.url)
    document = await ended(server, call_id)
    assert document["status"] == "failed"
    assert len(document["attempts"]) == 3
    assert "500" in document["reason"]
    (callback,) = await callbacks.wait_for(1)
    assert (callback["X-Function-Status"], callback.body) == ("500", b"broken")
    result = await server.call(f"/async-function/{call_id}/result", method="GET")
    assert (result.status_code, result.content) == (500, b"broken")


async def test_a_final_answer_is_not_tried_again(server: Serving) -> None:
    document = await ended(server, await server.accept("chaos?status=422"))
    assert (document["status"], len(document["attempts"])) == ("failed", 1)


async def test_a_running_call_is_stopped_and_its_callback_with_it(server: Serving, callbacks: Receiver) -> None:
    call_id = await server.accept("sleep?duration=60s", X_Callback_Url=callbacks.url)
    while (await record(server, call_id))["status"] != "running":
        pass
    cancelled = await server.call(f"/async-function/{call_id}", method="DELETE")
    assert cancelled.status_code == 202
    document = await ended(server, call_id)
    assert (document["status"], document["callback"]["status"]) == ("cancelled", "cancelled")
    again = await server.call(f"/async-function/{call_id}", method="DELETE")
    assert (again.status_code, "cancelled" in again.text) == (409, True)
    assert not callbacks.callbacks


async def test_a_waiting_call_that_is_cancelled_never_runs(tmp_path: Path, callbacks: Receiver) -> None:
    async with serving(tmp_path, "--workers", "0") as server:
        ids = [await server.accept("echo", b"%d" % n, X_Callback_Url=callbacks.url) for n in range(100)]
        assert (await record(server, ids[50]))["status"] == "waiting"
        assert (await server.call(f"/async-function/{ids[50]}", method="DELETE")).status_code == 202
        assert (await record(server, ids[50]))["status"] == "cancelled"
    async with serving(tmp_path) as server:
        others = {call_id for call_id in ids if call_id != ids[50]}
        await callbacks.wait_for_ids(others)
        assert callbacks.confirmed().keys() == others
        assert (await record(server, ids[50]))["status"] == "cancelled"


async def test_a_call_between_two_attempts_can_be_cancelled(tmp_path: Path) -> None:
    async with serving(tmp_path, environ={"initial_retry_wait": "60s", "max_retry_wait": "60s"}) as server:
        call_id = await server.accept("chaos?status=503")
        while (document := await record(server, call_id))["status"] != "retrying":
            pass
        assert document["next_attempt_at"] > document["attempts"][0]["started_at"]
        assert (await server.call(f"/async-function/{call_id}", method="DELETE")).status_code == 202
        assert (await record(server, call_id))["status"] == "cancelled"


async def test_ids_that_never_were_and_ids_that_are_no_ids_are_told_apart_from_functions(server: Serving) -> None:
    for method in ("GET", "DELETE"):
        unknown = await server.call("/async-function/0f7c2d3e-no-such-call", method=method)
        assert (unknown.status_code, "there is no call" in unknown.text) == (404, True)
    odd = await server.call("/async-function/a%20b", method="GET")
    assert odd.status_code == 404


async def test_an_expired_record_is_gone_and_not_unknown(tmp_path: Path) -> None:
    async with serving(tmp_path, environ={"results_ttl": "2s"}) as server:
        call_id = await server.accept("echo")
        await ended(server, call_id)
        async with asyncio.timeout(20):
            while (answer := await server.call(f"/async-function/{call_id}", method="GET")).status_code == 200:
                await asyncio.sleep(0.1)
        assert (answer.status_code, "expired" in answer.text) == (410, True)


async def test_a_callback_that_failed_is_delivered_by_whoever_comes_after_a_killed_worker(tmp_path: Path) -> None:
    async with receiver() as callbacks, serving(tmp_path, environ={**ENVIRON, "ack_wait": "2s"}) as server:
        callbacks.answer = 503
        call_id = await server.accept("echo", b"once", X_Callback_Url=callbacks.url)
        await callbacks.wait_for(2)
        assert (await record(server, call_id))["callback"]["status"] == "pending"
        server.kill("worker")
        callbacks.answer = 200
        await callbacks.wait_for_ids({call_id})
        while (document := await record(server, call_id))["callback"]["status"] == "pending":
            pass
        assert document["callback"]["status"] == "delivered"
        assert document["callback"]["attempts"] >= 2
        # The function ran once: every attempt tells of the same run.
        assert len({callback["X-Duration-Seconds"] for callback in callbacks.callbacks}) == 1
        assert len(document["attempts"]) == 1


async def test_a_receiver_that_was_being_told_when_the_worker_was_killed_is_told_by_the_next(
    tmp_path: Path, callbacks: Receiver
) -> None:
    async with serving(tmp_path, environ={**ENVIRON, "ack_wait": "2s"}) as server:
        callbacks.answers.clear()
        call_id = await server.accept("echo", b"once", X_Callback_Url=callbacks.url)
        await callbacks.wait_for(1)
        # A second after its beginning the record says that the call has ended, and not yet what its receiver answered.
        document = await ended(server, call_id)
        assert (document["callback"]["status"], document["callback"]["attempts"]) == ("pending", 0)
        server.kill("worker")
        callbacks.answers.set()
        first, second, *_ = await callbacks.wait_for(2)
        assert (first.body, first["webhook-id"]) == (second.body, second["webhook-id"])
        assert first["X-Duration-Seconds"][:8] == second["X-Duration-Seconds"][:8]
        while (document := await record(server, call_id))["callback"]["status"] == "pending":
            pass
        assert (document["callback"]["status"], len(document["attempts"])) == ("delivered", 1)


async def test_a_receiver_that_is_gone_for_good_is_left_alone(server: Serving, callbacks: Receiver) -> None:
    callbacks.answer = 410
    call_id = await server.accept("echo", X_Callback_Url=callbacks.url)
    while (document := await record(server, call_id, "?wait=5s"))["callback"]["status"] == "pending":
        pass
    assert document["callback"]["status"] == "failed"
    assert "410" in document["callback"]["error"]


async def test_a_record_that_made_room_is_gone_and_not_unknown(tmp_path: Path) -> None:
    async with serving(tmp_path, environ={"results_max_bytes": "1048576"}) as server:
        ids = [await server.accept("echo", b"x" * 60_000) for _ in range(40)]
        for call_id in ids:
            document = (await server.call(f"/async-function/{call_id}?wait=30s", method="GET")).json()
            assert document.get("status", "succeeded") == "succeeded"
        first, newest = ids[0], ids[-1]
        async with asyncio.timeout(30):
            while (gone := await server.call(f"/async-function/{first}/result", method="GET")).status_code == 200:
                await asyncio.sleep(0.1)
        for path in (first, f"{first}/result", f"{first}/events"):
            gone = await server.call(f"/async-function/{path}", method="GET")
            assert (gone.status_code, "results_max_bytes" in gone.text) == (410, True), gone.text
        assert (await server.call(f"/async-function/{newest}/result", method="GET")).content == b"x" * 60_000
        unknown = await server.call("/async-function/5d2f0c7a-ef89-4a33-8657-7cad15cdd78a", method="GET")
        assert unknown.status_code == 404
        # The list has the records, and no markers.
        user, password = ((tmp_path / f"data/secrets/basic-auth-{name}").read_text().strip() for name in PAIR)
        listed = await server.client.get(f"{server.url}/system/calls", auth=(user, password))
        assert {call["id"] for call in listed.json()["calls"]} <= set(ids) - {first}
