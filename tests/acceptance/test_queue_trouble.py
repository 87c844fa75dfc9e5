"""Queues that are used for the first time by many, deleted by hand, purged by a gateway that dies, or have lanes."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from holdfast.function import FunctionRef
from holdfast.invocation import Invocation, new_call_id
from holdfast.queue.api import ask
from holdfast.queue.connection import connect
from holdfast.queue.message import to_publish
from holdfast.queue.publisher import Publisher
from holdfast.settings import NatsSettings
from tests.support.serving import Serving, serving

CALLS = 2000


async def deploy(server: Serving, name: str, queue: str, **annotations: str) -> None:
    document = {
        "service": name,
        "image": "holdfast/sleep:latest",
        "annotations": {"com.openfaas.queue": queue, **annotations},
    }
    answer = await server.call("/system/functions", json.dumps(document).encode())
    assert answer.status_code == 202, answer.text


async def queue(server: Serving, name: str) -> dict[str, Any]:
    document: dict[str, Any] = (await server.call(f"/system/queues/{name}", method="GET")).json()
    return document


async def status(server: Serving, call_id: str, query: str = "") -> str:
    return str((await server.call(f"/async-function/{call_id}{query}", method="GET")).json()["status"])


async def fill(server: Serving, name: str, function: str) -> list[str]:
    """Put CALLS calls of a function into a queue; gives their ids. Through NATS, for HTTP would take its time."""
    calls = [
        Invocation(call_id, call_id, FunctionRef(function), time.time_ns(), None, b"POST / HTTP/1.1\r\n\r\n")
        for call_id in (new_call_id() for _ in range(CALLS))
    ]
    async with connect(NatsSettings.from_environment({"nats_url": server.ready["nats"]}), name="test") as nats:
        publisher = Publisher(nats, 30)
        await asyncio.gather(*(publisher.confirm(*to_publish(name, call)) for call in calls))
    return [call.call_id for call in calls]


async def cancelled(server: Serving, name: str) -> set[str]:
    """The ids of a queue's calls whose records say that they were cancelled."""
    found: set[str] = set()
    query = f"?queue={name}&status=cancelled&limit=1000"
    page = (await server.call(f"/system/calls{query}", method="GET")).json()
    while True:
        found |= {call["id"] for call in page["calls"]}
        if page["next"] is None:
            return found
        page = (await server.call(f"/system/calls{query}&before={page['next']}", method="GET")).json()


async def purge_all(server: Serving, name: str) -> None:
    """Purge until it is complete, as the command does; a gateway that is starting again is waited for."""
    async with asyncio.timeout(60):
        while True:
            try:
                answer = await server.call(f"/system/queues/{name}/purge")
            except httpx.TransportError:
                continue
            if answer.status_code == 200 and answer.json()["complete"]:
                return


async def test_a_queue_is_made_once_for_many_first_calls_and_again_after_somebody_deleted_it(tmp_path: Path) -> None:
    async with serving(tmp_path, "--no-auth", "--workers", "0", environ={"publish_timeout": "500ms"}) as server:
        await deploy(server, "first", "fresh")
        await asyncio.gather(*(server.accept("first", b"%d" % number) for number in range(50)))
        assert (await queue(server, "fresh"))["waiting"] == 50
        async with connect(NatsSettings.from_environment({"nats_url": server.ready["nats"]}), name="test") as nats:
            await ask(nats, "STREAM.DELETE.OF_fresh")
        refused = await server.call("/async-function/first")
        # Nothing was stored, and so it is said; the queue is made again for those who come after.
        assert (refused.status_code, "X-Call-Id" in refused.headers) == (503, False)
        async with asyncio.timeout(30):
            while (await server.call("/async-function/first")).status_code == 503:
                pass
        assert (await queue(server, "fresh"))["waiting"] == 1


async def test_a_purge_whose_gateway_is_killed_leaves_no_call_without_an_end(tmp_path: Path) -> None:
    async with serving(tmp_path, "--no-auth", "--queue", "held=4") as server:
        await deploy(server, "held", "held")
        await server.call("/system/queues/held/pause")
        ids = await fill(server, "held", "held")
        purging = asyncio.create_task(server.call("/system/queues/held/purge"))
        async with asyncio.timeout(30):
            while await status(server, ids[0]) != "cancelled":
                pass
        server.kill("gateway")
        await asyncio.wait([purging])
        await purge_all(server, "held")
        shown = await queue(server, "held")
        assert (shown["waiting"], shown["running"]) == (0, 0)
        await server.call("/system/queues/held/resume")
        assert await cancelled(server, "held") == set(ids)


async def test_a_pause_and_a_purge_reach_the_calls_in_a_functions_lane(tmp_path: Path) -> None:
    async with serving(tmp_path, "--no-auth", "--queue", "busy=4") as server:
        await deploy(server, "single", "busy", **{"com.openfaas.max_inflight": "1"})
        ids = [await server.accept("single?duration=300ms") for _ in range(20)]
        # In a lane of its own the function runs one call at a time, and JetStream counts.
        async with asyncio.timeout(30):
            while await status(server, ids[1]) != "succeeded":
                pass
        ids += [await server.accept("single?duration=300ms") for _ in range(10)]
        assert (await server.call("/system/queues/busy/pause")).json()["paused"] is True
        async with asyncio.timeout(30):
            while (await queue(server, "busy"))["running"]:
                pass
        held = await queue(server, "busy")
        assert held["waiting"]
        async with asyncio.timeout(30):
            # Counted at most once a second, and perhaps while calls were still being moved into the lane.
            while held["functions"] != [{"function": "single.openfaas-fn", "waiting": held["waiting"]}]:
                held = await queue(server, "busy")
        before = Counter([await status(server, call_id) for call_id in ids])
        assert before == {"succeeded": len(ids) - held["waiting"], "waiting": held["waiting"]}
        await purge_all(server, "busy")
        await server.call("/system/queues/busy/resume")
        after = Counter([await status(server, call_id, "?wait=30s") for call_id in ids])
        assert after == {"succeeded": before["succeeded"], "cancelled": before["waiting"]}


async def test_the_stored_bodies_of_purged_calls_go_with_them(tmp_path: Path) -> None:
    async with serving(tmp_path, "--no-auth", "--workers", "0") as server:
        await deploy(server, "large", "held")
        for _ in range(3):
            await server.accept("large", b"x" * 9 * 1024 * 1024)
        async with connect(NatsSettings.from_environment({"nats_url": server.ready["nats"]}), name="test") as nats:
            assert (await ask(nats, "STREAM.INFO.HOLDFAST_bodies"))["state"]["messages"] > 0
            await purge_all(server, "held")
            assert (await ask(nats, "STREAM.INFO.HOLDFAST_bodies"))["state"]["messages"] == 0
