"""Calls that failed for good: kept, shown, run again, dropped."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.directory import FORGET_S, FRESH_S
from tests.support.receiver import receiver
from tests.support.serving import Serving, serving

ENVIRON = {"initial_retry_wait": "50ms", "max_retry_attempts": "3"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, "--no-auth", environ=ENVIRON) as started:
        yield started


async def dead(server: Serving, query: str = "") -> list[dict[str, Any]]:
    answer = await server.call(f"/system/dead-letters{query}", method="GET")
    assert answer.status_code == 200, answer.text
    letters: list[dict[str, Any]] = answer.json()["dead_letters"]
    return letters


async def act(server: Serving, verb: str, **wanted: Any) -> Any:
    answer = await server.call(f"/system/dead-letters/{verb}", json.dumps(wanted).encode())
    return answer.status_code, answer.json() if answer.status_code == 200 else answer.text


async def fail(server: Serving, body: bytes = b"x", **headers: str) -> str:
    """A call to chaos, which is told to fail for ever; gives its id once it has failed."""
    await server.call("/function/chaos/set", json.dumps({"status": 500, "body": "broken"}).encode())
    call_id = await server.accept("chaos/path?q=1", body, **headers)
    ended = await server.call(f"/async-function/{call_id}?wait=30s", method="GET")
    assert ended.json()["status"] == "failed"
    return call_id


async def show(server: Serving, call_id: str, query: str = "") -> dict[str, Any]:
    document: dict[str, Any] = (await server.call(f"/async-function/{call_id}{query}", method="GET")).json()
    return document


async def test_an_exhausted_call_is_kept_and_succeeds_when_it_is_replayed_after_the_repair(server: Serving) -> None:
    async with receiver() as callbacks:
        call_id = await fail(server, X_Callback_Url=callbacks.url, Authorization="Bearer secret")
        (letter,) = await dead(server)
        assert (letter["id"], letter["function"], letter["queue"]) == (call_id, "chaos", "faas-request")
        assert (letter["runs"], letter["status"]) == (3, 500)
        assert "500" in letter["reason"]
        shown = (await server.call(f"/system/dead-letters/{call_id}", method="GET")).json()
        assert shown["request"]["target"] == "/path?q=1"
        assert (shown["request"]["body"], shown["answer"]["body"]) == ("x", "broken")
        assert ["Authorization", "(hidden)"] in shown["request"]["headers"]

        await server.call("/function/chaos/reset")
        status, replayed = await act(server, "replay", id=call_id)
        assert (status, [letter["id"] for letter in replayed["replayed"]]) == (200, [call_id])
        document = (await server.call(f"/async-function/{call_id}?wait=30s", method="GET")).json()
        assert (document["status"], len(document["attempts"])) == ("succeeded", 1)
        assert await dead(server) == []
        assert [callback["X-Function-Status"] for callback in await callbacks.wait_for(2)] == ["500", "200"]


async def test_a_replayed_call_keeps_its_key_can_be_stopped_and_has_no_time_to_expire(server: Serving) -> None:
    headers = {"Idempotency_Key": "order-1", "X_Expires_After": "3s"}
    call_id = await fail(server, b"x", **headers)
    accepted_at = time.monotonic()
    await server.call("/function/chaos/set", json.dumps({"status": 200, "delay": "6s"}).encode())
    await asyncio.sleep(max(0.0, accepted_at + 3.1 - time.monotonic()))  # its caller's time is over
    assert (await act(server, "replay", id=call_id))[0] == 200
    async with asyncio.timeout(20):
        while (document := await show(server, call_id))["started_at"] is None:
            await asyncio.sleep(0.05)
    assert document["status"] == "running"
    assert await server.accept("chaos/path?q=1", b"x", **headers) == call_id
    assert (await server.call(f"/async-function/{call_id}", method="DELETE")).status_code == 202
    assert (await show(server, call_id, "?wait=20s"))["reason"] == "cancelled while it was run"


async def test_letters_are_selected_by_function_and_a_dry_run_touches_nothing(server: Serving) -> None:
    ids = [await fail(server) for _ in range(3)]
    assert [letter["id"] for letter in await dead(server)] == ids
    assert [letter["id"] for letter in await dead(server, "?limit=2")] == ids[:2]
    assert await dead(server, "?function=echo") == []
    status, dry = await act(server, "drop", function="chaos", dry_run=True)
    assert (status, len(dry["dropped"]), dry["dry_run"]) == (200, 3, True)
    assert len(await dead(server)) == 3
    status, _ = await act(server, "drop", id=ids[1])
    assert [letter["id"] for letter in await dead(server)] == [ids[0], ids[2]]
    status, dropped = await act(server, "drop", all=True)
    assert (status, len(dropped["dropped"])) == (200, 2)
    assert await dead(server) == []


async def test_nothing_is_selected_by_accident(server: Serving) -> None:
    call_id = await fail(server)
    for wanted in (
        {},
        {"dry_run": False},
        {"all": False},
        {"queue": "a.b"},
        {"id": "*"},
        {"function": "*"},
        {"who": 1},
    ):
        status, text = await act(server, "drop", **wanted)
        assert status == 400, text
    status, text = await act(server, "replay", id="nobody")
    assert (status, "no dead letter" in text) == (404, True)
    assert [letter["id"] for letter in await dead(server)] == [call_id]


async def test_dead_letters_need_the_password(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        assert (await server.call("/system/dead-letters", method="GET")).status_code == 401
        assert (await server.call("/system/dead-letters/drop", b'{"all": true}')).status_code == 401


async def test_a_call_is_replayed_into_the_queue_that_its_function_has_by_now(server: Serving) -> None:
    document = {"service": "moved", "image": "holdfast/chaos:latest"}
    assert (await server.call("/system/functions", json.dumps(document).encode())).status_code == 202
    call_id = await server.accept("moved?status=400")
    assert (await show(server, call_id, "?wait=30s"))["queue"] == "faas-request"
    elsewhere = {**document, "annotations": {"com.openfaas.queue": "elsewhere"}}
    assert (await server.call("/system/functions", json.dumps(elsewhere).encode(), method="PUT")).status_code == 202
    await asyncio.sleep(FRESH_S + FORGET_S)  # nobody calls it meanwhile
    assert (await act(server, "replay", id=call_id))[0] == 200
    waits = await show(server, call_id)
    assert (waits["queue"], waits["status"]) == ("elsewhere", "waiting")
    assert (await show(server, await server.accept("moved")))["queue"] == "elsewhere"
    assert (await server.call("/system/functions", b'{"functionName": "moved"}', method="DELETE")).status_code == 202
    await asyncio.sleep(FRESH_S + FORGET_S)
    assert (await server.call("/async-function/moved", b"")).status_code == 404
