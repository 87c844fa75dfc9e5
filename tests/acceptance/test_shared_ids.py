"""Calls that share an id, as the links of a chain do, or those of a caller with ids of its own: the last one counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.metrics import metrics, metrics_when
from tests.support.serving import Serving, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    environ = {"max_retry_attempts": "1", "results_ttl": "1s"}
    async with serving(tmp_path, "--no-auth", environ=environ) as started:
        yield started


async def record(server: Serving, call_id: str, query: str = "") -> dict[str, Any]:
    answer = await server.call(f"/async-function/{call_id}{query}", method="GET")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def cancelled(server: Serving, call_id: str) -> int:
    async with asyncio.timeout(20):
        return (await server.call(f"/async-function/{call_id}", method="DELETE")).status_code


async def test_whoever_waits_for_a_chain_waits_for_its_last_link(server: Serving) -> None:
    call_id = await server.accept("echo", b"1s", X_Callback_Url="/async-function/sleep?duration=1500ms")
    document = await record(server, call_id, "?wait=30s")
    assert (document["function"], document["status"]) == ("sleep", "succeeded")
    assert (await record(server, call_id))["function"] == "sleep"


async def test_the_link_of_a_chain_that_runs_is_stopped(server: Serving) -> None:
    call_id = await server.accept("echo", X_Callback_Url="/async-function/sleep?duration=60s")
    async with asyncio.timeout(20):
        while (document := await record(server, call_id))["function"] != "sleep" or document["status"] != "running":
            pass
    assert await cancelled(server, call_id) == 202
    document = await record(server, call_id, "?wait=20s")
    assert (document["status"], document["reason"]) == ("cancelled", "cancelled while it was run")
    await metrics_when(server, lambda now: now.accepted == 2 and now.unaccounted == 0)


async def test_an_id_of_ones_own_can_be_used_again_after_its_call_was_cancelled(server: Serving) -> None:
    headers = {"X_Call_Id": "mine", "X_Delay": "1h"}
    await server.accept("echo", b"", **headers)
    assert await cancelled(server, "mine") == 202
    assert await cancelled(server, "mine") == 409
    await server.accept("echo", b"", **headers)
    assert (await record(server, "mine"))["status"] == "scheduled"
    assert await cancelled(server, "mine") == 202
    assert (await record(server, "mine"))["status"] == "cancelled"
    await metrics_when(server, lambda now: now.total("holdfast_calls_ended_total", status="cancelled") == 2)


async def test_calls_of_one_id_that_wait_are_cancelled_together_and_each_is_counted(server: Serving) -> None:
    await server.call("/system/queues/faas-request/pause")
    for body in (b"one", b"two", b"three"):
        await server.accept("echo", body, X_Call_Id="together")
    assert await cancelled(server, "together") == 202
    await server.call("/system/queues/faas-request/resume")
    found = await metrics_when(server, lambda now: now.accepted == 3 and now.unaccounted == 0)
    assert found.total("holdfast_calls_ended_total", status="cancelled") == 3


async def test_a_call_whose_id_had_an_expired_record_is_found_and_can_be_cancelled(server: Serving) -> None:
    await server.accept("echo", X_Call_Id="old")
    async with asyncio.timeout(30):
        while (await server.call("/async-function/old", method="GET")).status_code != 410:
            await asyncio.sleep(0.1)
    await server.accept("echo", X_Call_Id="old", X_Delay="1h")
    assert (await record(server, "old"))["status"] == "scheduled"
    assert await cancelled(server, "old") == 202
    answer = await server.call("/async-function/old", method="GET")
    # A second later this record has expired as well.
    assert answer.status_code == 410 or answer.json()["status"] == "cancelled"


async def test_of_two_calls_of_one_id_the_one_accepted_last_has_the_record(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.accept("sleep?duration=2s", X_Call_Id="both")
        await server.accept("echo", b"the last", X_Call_Id="both")
        await metrics_when(server, lambda now: now.total("holdfast_calls_ended_total", status="succeeded") == 2)
        assert (await record(server, "both"))["function"] == "echo"
        result = await server.call("/async-function/both/result", method="GET")
        assert result.content == b"the last"
        assert (await metrics(server)).unaccounted == 0
