"""`GET /system/calls`: the calls there are, whatever their state."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.serving import Serving, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENVIRON = {"initial_retry_wait": "1h", "max_retry_wait": "1h"}


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="server")
async def _server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("serve")
    async with serving(folder, "--no-auth", environ=ENVIRON) as started:
        yield started


async def listed(server: Serving, query: str = "") -> dict[str, Any]:
    answer = await server.call(f"/system/calls{query}", method="GET")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def ids(server: Serving, query: str = "") -> list[str]:
    return [call["id"] for call in (await listed(server, query))["calls"]]


async def ended(server: Serving, call_id: str) -> Any:
    return (await server.call(f"/async-function/{call_id}?wait=30s", method="GET")).json()


async def test_calls_that_have_ended_come_newest_first_page_by_page(server: Serving) -> None:
    made = []
    for _ in range(5):
        made.append(await server.accept("echo", b"x"))
        await ended(server, made[-1])
    page = await listed(server, "?function=echo&limit=3")
    assert [call["id"] for call in page["calls"]] == made[:1:-1]
    # Why a call waits, and what follows it in its chain, is looked up for one, not for a list.
    assert page["calls"][0] | {"waiting": None, "later": None} == await ended(server, made[-1])
    # Calls that come meanwhile move nothing to another page.
    await ended(server, await server.accept("echo", b"later"))
    following = await listed(server, f"?function=echo&limit=3&before={page['next']}")
    assert [call["id"] for call in following["calls"]] == made[1::-1]
    assert following["next"] is None


async def test_what_waits_now_or_for_its_time_is_listed_without_a_record(server: Serving) -> None:
    await ended(server, await server.accept("env", b"x"))
    assert (await server.call("/system/queues/faas-request/pause")).status_code == 200
    try:
        waiting = [await server.accept("env", b"x") for _ in range(3)]
        scheduled = await server.accept("env", b"x", X_Delay="1h")
        found = (await listed(server, "?function=env"))["calls"]
        assert [(call["id"], call["status"]) for call in found[:4]] == [
            (scheduled, "scheduled"),
            *((call_id, "waiting") for call_id in waiting[::-1]),
        ]
        assert found[0]["next_attempt_at"] is not None
        assert found[4]["status"] == "succeeded"
        assert await ids(server, "?status=waiting") == waiting[::-1]
        assert await ids(server, "?status=waiting&function=echo") == []
        assert await ids(server, "?status=scheduled&function=env.openfaas-fn") == [scheduled]
        assert await ids(server, "?status=waiting&queue=other") == []
        assert await ids(server, "?status=waiting&namespace=other") == []
        page = await listed(server, "?function=env&limit=2")
        assert [call["id"] for call in page["calls"]] == [scheduled, waiting[2]]
        assert (await ids(server, f"?function=env&limit=2&before={page['next']}")) == waiting[1::-1]
    finally:
        assert (await server.call("/system/queues/faas-request/resume")).status_code == 200
    for call_id in waiting:
        await ended(server, call_id)
    now = (await listed(server, "?function=env"))["calls"]
    assert {call["id"] for call in now if call["status"] == "succeeded"} >= {*waiting}
    assert len({call["id"] for call in now}) == len(now)


async def test_a_call_is_listed_once_while_it_runs_waits_for_another_attempt_or_was_cancelled(server: Serving) -> None:
    running = await server.accept("sleep", b"", X_Sleep="1h")
    async with server.client.stream("GET", f"{server.url}/async-function/{running}/events") as events:
        async for line in events.aiter_lines():
            if line == "event: running":
                break
    assert await ids(server, "?function=sleep&status=running") == [running]
    assert await ids(server, "?function=sleep") == [running]
    assert (await server.call(f"/async-function/{running}", method="DELETE")).status_code == 202
    assert await ids(server, "?status=cancelled&function=sleep") == [running]

    await server.call("/function/chaos/set", json.dumps({"status": 503}).encode())
    retrying = await server.accept("chaos", b"x")
    async with server.client.stream("GET", f"{server.url}/async-function/{retrying}/events") as events:
        async for line in events.aiter_lines():
            if line == "event: retrying":
                break
    for query in ("?function=chaos", "?function=chaos&status=retrying"):
        [found] = (await listed(server, query))["calls"]
        assert (found["id"], found["status"]) == (retrying, "retrying")
    assert await ids(server, "?function=chaos&status=scheduled") == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?status=done", "status cannot be used: expected waiting, scheduled, running"),
        ("?limit=1001", "limit cannot be used: expected a whole number up to 1000"),
        ("?limit=" + "9" * 6000, "limit cannot be used"),
        ("?limit=-1", "limit cannot be used"),
        ("?before=yesterday", "before cannot be used: give the `next`"),
        ("?before=HOLDFAST_dead:1", "before cannot be used"),
        ("?before=OF_x:99999999999999999999", "before cannot be used"),
        ("?function=*", "is not the name of a function"),
        ("?function=a&namespace=%3E", "is not the name of a namespace"),
        ("?namespace=a.b", "is not the name of a namespace"),
        ("?queue=a.b", "queue"),
    ],
)
async def test_a_query_that_cannot_be_meant_is_refused(server: Serving, query: str, said: str) -> None:
    answer = await server.call(f"/system/calls{query}", method="GET")
    assert answer.status_code == 400
    assert said in answer.text


async def test_a_queue_that_is_gone_and_a_limit_of_none_are_not_errors(server: Serving) -> None:
    assert await listed(server, "?before=OF_gone:7") == {"calls": [], "next": None}
    await ended(server, await server.accept("echo", b"x"))
    page = await listed(server, "?limit=0")
    assert page["calls"] == []
    assert page["next"].startswith("HOLDFAST_calls:")
