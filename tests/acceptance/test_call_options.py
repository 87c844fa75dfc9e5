"""What a caller may ask of one call: later, not too late, not too long, told elsewhere when it fails, once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.receiver import Receiver, receiver
from tests.support.serving import Serving, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, environ={"max_retry_attempts": "1"}) as started:
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


async def test_a_delayed_call_is_scheduled_and_runs_when_its_time_has_come(
    server: Serving, callbacks: Receiver
) -> None:
    began = time.monotonic()
    call_id = await server.accept("echo", X_Callback_Url=callbacks.url, X_Delay="1500ms")
    document = await record(server, call_id)
    assert document["status"] == "scheduled"
    assert document["next_attempt_at"] > document["accepted_at"]
    (callback,) = await callbacks.wait_for(1)
    assert callback.at - began >= 1.5


async def test_a_delayed_call_can_be_cancelled(server: Serving) -> None:
    call_id = await server.accept("echo", X_Delay="1h")
    assert (await server.call(f"/async-function/{call_id}", method="DELETE")).status_code == 202
    assert (await record(server, call_id))["status"] == "cancelled"


async def test_a_call_that_did_not_start_in_time_expires_and_says_so(tmp_path: Path, callbacks: Receiver) -> None:
    async with serving(tmp_path, "--workers", "0") as server:
        call_id = await server.accept("echo", X_Callback_Url=callbacks.url, X_Expires_After="100ms")
    async with serving(tmp_path) as server:
        document = await record(server, call_id, "?wait=30s")
        assert (document["status"], document["attempts"]) == ("expired", [])
        (callback,) = await callbacks.wait_for(1)
        assert callback["X-Function-Status"] == "504"
        assert b"not started within the time" in callback.body


async def test_a_caller_may_shorten_a_run(server: Serving) -> None:
    call_id = await server.accept("sleep?duration=30s", X_Timeout="300ms")
    document = await record(server, call_id, "?wait=20s")
    assert document["status"] == "failed", document
    assert document["attempts"][0]["status"] == 504


async def test_a_failure_is_told_where_the_caller_wants_failures(server: Serving, callbacks: Receiver) -> None:
    async with receiver() as failures:
        urls = {"X_Callback_Url": callbacks.url, "X_Failure_Callback_Url": failures.url}
        await server.accept("chaos?status=400", b"", **urls)
        await failures.wait_for(1)
        await server.accept("chaos", b"", **urls)
        await callbacks.wait_for(1)
        assert [callback["X-Function-Status"] for callback in failures.callbacks] == ["400"]
        assert [callback["X-Function-Status"] for callback in callbacks.callbacks] == ["200"]


async def test_the_same_key_from_twenty_connections_at_once_is_one_run_and_one_id(tmp_path: Path) -> None:
    async with receiver() as callbacks, serving(tmp_path, "--gateways", "2", "--workers", "2") as server:
        headers = {"X_Callback_Url": callbacks.url, "Idempotency_Key": "order-4711"}
        ids = await asyncio.gather(*(server.accept("echo", b"once", **headers) for _ in range(20)))
        assert len(set(ids)) == 1
        assert (await record(server, ids[0], "?wait=20s"))["status"] == "succeeded"
        assert await server.accept("echo", b"once", **headers) == ids[0]
        other = await server.call("/async-function/echo", b"twice", {"Idempotency-Key": "order-4711"})
        assert (other.status_code, "another request" in other.text) == (422, True)
        assert await server.accept("echo", b"twice", Idempotency_Key="order-4712") != ids[0]
        await callbacks.wait_for(1)
        assert len(callbacks.callbacks) == 1


async def test_a_repeat_says_that_it_is_one_and_a_key_whose_call_failed_begins_a_new_call(server: Serving) -> None:
    async def send(function: str, **headers: str) -> tuple[str, str | None]:
        named = {"Idempotency-Key": "order-1001", **headers}
        answer = await server.call(f"/async-function/{function}", b"x", named)
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"] == f"/async-function/{answer.headers['X-Call-Id']}"
        return answer.headers["X-Call-Id"], answer.headers.get("Idempotent-Replayed")

    failed, _ = await send("chaos?status=400")
    assert (await record(server, failed, "?wait=20s"))["status"] == "failed"
    delayed, replayed = await send("chaos?status=200", **{"X-Delay": "1h"})
    assert (delayed == failed, replayed) == (False, None)
    assert await send("chaos?status=200", **{"X-Delay": "1h"}) == (delayed, "true")
    assert (await server.call(f"/async-function/{delayed}", method="DELETE")).status_code == 202
    last, replayed = await send("chaos?status=200")
    assert (last in {failed, delayed}, replayed) == (False, None)
    assert (await record(server, last, "?wait=20s"))["status"] == "succeeded"
    assert await send("chaos?status=200") == (last, "true")
    assert [(await record(server, call_id))["status"] for call_id in (failed, delayed)] == ["failed", "cancelled"]


async def test_who_guesses_a_key_does_not_find_its_call(server: Serving) -> None:
    call_id = await server.accept("echo", b"secret", Idempotency_Key="order-1001")
    assert (await record(server, call_id, "?wait=20s"))["status"] == "succeeded"
    # The id that version 0.1 made of this key, which anybody could.
    answer = await server.call("/async-function/a724bb45-903e-5a1b-8ff5-bc090ff49cab/result", method="GET")
    assert answer.status_code == 404


async def test_a_call_with_a_key_is_seen_running_and_can_be_stopped(server: Serving) -> None:
    call_id = await server.accept("sleep?duration=60s", Idempotency_Key="long")
    async with asyncio.timeout(20):
        while (document := await record(server, call_id))["started_at"] is None:
            await asyncio.sleep(0.05)
    assert document["status"] == "running"
    assert (await server.call(f"/async-function/{call_id}", method="DELETE")).status_code == 202
    document = await record(server, call_id, "?wait=20s")
    assert (document["status"], document["reason"]) == ("cancelled", "cancelled while it was run")


async def test_a_call_with_a_key_that_a_worker_has_just_taken_is_stopped_there(server: Serving) -> None:
    call_id = await server.accept("sleep?duration=60s", Idempotency_Key="just-taken")
    async with asyncio.timeout(20):
        # A worker has it, and has not written so: its record is as the gateway made it.
        while (await record(server, call_id))["status"] != "running":
            pass
    assert (await server.call(f"/async-function/{call_id}", method="DELETE")).status_code == 202
    document = await record(server, call_id, "?wait=20s")
    assert (document["status"], document["reason"]) == ("cancelled", "cancelled while it was run")


async def test_a_delayed_call_with_a_key_is_scheduled_and_sent_again_is_the_same(server: Serving) -> None:
    headers = {"Idempotency_Key": "later", "X_Delay": "1h"}
    call_id = await server.accept("echo", b"", **headers)
    document = await record(server, call_id)
    assert (document["status"], document["waiting"]["reason"]) == ("scheduled", "delayed until")
    assert document["next_attempt_at"] > document["accepted_at"]
    assert await server.accept("echo", b"", **headers) == call_id
    assert (await server.call(f"/async-function/{call_id}", method="DELETE")).status_code == 202
    assert (await record(server, call_id))["status"] == "cancelled"


async def test_a_key_and_an_id_of_ones_own_exclude_each_other(server: Serving) -> None:
    answer = await server.call("/async-function/echo", b"", {"Idempotency-Key": "a", "X-Call-Id": "b"})
    assert answer.status_code == 400
