"""Queues beside the default one, as their users and operators see them: sent to, held, emptied, explained."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.support.parts import worker
from tests.support.receiver import receiver
from tests.support.serving import Serving, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENVIRON = {"initial_retry_wait": "30s", "max_retry_attempts": "3"}


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="server")
async def _server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """Each test has a queue, and a worker of two slots for it, to itself; the queue `nobodys` has none."""
    queues = [word for name in ("slow", "held", "soon", "purged", "busy") for word in ("--queue", f"{name}=2")]
    folder: Path = tmp_path_factory.mktemp("serve")
    async with serving(folder, "--no-auth", *queues, environ=ENVIRON) as started:
        yield started


async def deploy(server: Serving, name: str, queue: str, image: str = "holdfast/echo:latest") -> httpx.Response:
    document = {"service": name, "image": image, "annotations": {"com.openfaas.queue": queue}}
    return await server.call("/system/functions", json.dumps(document).encode())


async def post(server: Serving, path: str, **body: Any) -> httpx.Response:
    return await server.call(f"/system/queues/{path}", json.dumps(body).encode() if body else b"")


async def queue(server: Serving, name: str) -> dict[str, Any]:
    answer = await server.call(f"/system/queues/{name}", method="GET")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def record(server: Serving, call_id: str, query: str = "") -> dict[str, Any]:
    answer = await server.call(f"/async-function/{call_id}{query}", method="GET")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def test_an_annotation_sends_a_functions_calls_to_the_queue_that_it_names(server: Serving) -> None:
    assert (await deploy(server, "slowly", "slow")).status_code == 202
    here, there = await server.accept("echo", b"1"), await server.accept("slowly", b"2")
    keyed = await server.accept("slowly", b"3", Idempotency_Key="k")
    assert await server.accept("slowly", b"3", Idempotency_Key="k") == keyed
    ends = [await record(server, call_id, "?wait=30s") for call_id in (here, there, keyed)]
    assert [end["queue"] for end in ends] == ["faas-request", "slow", "slow"]
    assert [end["status"] for end in ends] == ["succeeded"] * 3
    delayed = await server.accept("slowly", b"4", X_Delay="20m")
    assert (await record(server, delayed))["waiting"]["reason"] == "delayed until"
    await server.call("/function/chaos/set", json.dumps({"status": 500, "times": 1}).encode())
    failing = await server.accept("chaos")
    async with asyncio.timeout(20):
        while (shown := await record(server, failing))["status"] != "retrying":
            pass
    assert shown["waiting"]["reason"] == "backing off until"
    assert shown["waiting"]["text"].startswith("run 1 failed, the next is at ")
    assert (await queue(server, "slow"))["scheduled"] == 1
    cancelled = await server.call(f"/async-function/{delayed}", method="DELETE")
    assert (cancelled.status_code, (await queue(server, "slow"))["scheduled"]) == (202, 0)


async def test_a_call_to_a_queue_without_a_worker_is_kept_until_there_is_one(server: Serving) -> None:
    await deploy(server, "kept", "nobodys")
    call_id = await server.accept("kept", b"x")
    async with asyncio.timeout(20):
        while not (shown := await queue(server, "nobodys"))["functions"]:
            pass  # which functions there are is remembered for a second
    assert (shown["waiting"], shown["workers"]) == (1, 0)
    assert shown["functions"] == [{"function": "kept.openfaas-fn", "waiting": 1}]
    assert shown["oldest_age_seconds"] >= 0
    # A gateway that has listened too short a time does not say that there is none.
    async with asyncio.timeout(20):
        while (why := (await record(server, call_id))["waiting"])["reason"] != "no worker":
            assert why["reason"] == "position"
    assert why == {"reason": "no worker", "position": 1, "text": "no worker serves the queue nobodys"}
    metrics_url = server.ready["metrics"]
    health = await server.client.get(f"{metrics_url}/healthz", headers={"Accept": "application/json"})
    assert health.status_code == 200
    assert "1 call waits in the queue nobodys and no worker serves it" in health.json()["details"]
    assert (await server.client.get(f"{metrics_url}/healthz")).text == "OK\n"
    metrics = (await server.client.get(f"{metrics_url}/metrics")).text
    assert 'holdfast_queue_workers{queue_name="nobodys"} 0.0' in metrics
    assert 'holdfast_queue_workers{queue_name="slow"} 1.0' in metrics
    pending = 'queue_worker_pending_messages{function_name="kept.openfaas-fn",queue_name="nobodys"} 1.0'
    assert pending in metrics
    # The runtime of an open server wants its password nevertheless: what it takes are commands to run.
    password = {"provider_secret_mount_path": str(server.folder / "data" / "secrets")}
    async with worker(server.ready["nats"], server.ready["provider"], queue_name="nobodys", ack_wait="2s", **password):
        assert (await record(server, call_id, "?wait=30s"))["status"] == "succeeded"
        assert (await queue(server, "nobodys"))["workers"] == 1


async def test_a_paused_queue_keeps_a_hundred_calls_until_it_is_resumed_whatever_dies_meanwhile(
    server: Serving,
) -> None:
    await deploy(server, "holdable", "held")
    assert (await post(server, "held/pause")).json()["paused"] is True
    async with receiver() as callbacks:
        ids = [await server.accept("holdable", b"x", X_Callback_Url=callbacks.url) for _ in range(100)]
        why = (await record(server, ids[-1]))["waiting"]
        assert why == {"reason": "paused", "position": 100, "text": "the queue held is paused until it is resumed"}
        shown = await queue(server, "held")
        assert (shown["paused"], shown["paused_until"], shown["waiting"], shown["running"]) == (True, None, 100, 0)
        (pid,) = server.ready["processes"]["worker of held"]
        os.kill(pid, signal.SIGKILL)
        await server.logged("started again")
        server.kill("nats-server")
        await server.logged("started again", times=2)
        async with asyncio.timeout(30):
            while (accepted := await server.call("/async-function/echo", b"y")).status_code == 503:
                pass
        # The default queue goes on as before, and tells when the workers are there again.
        other = accepted.headers["X-Call-Id"]
        assert (await record(server, other, "?wait=30s"))["status"] == "succeeded"
        shown = await queue(server, "held")
        assert (shown["paused"], shown["waiting"], shown["running"]) == (True, 100, 0)
        resumed = (await post(server, "held/resume")).json()
        assert resumed["waiting"] <= 100
        assert (resumed["paused"], resumed["paused_until"]) == (False, None)
        await callbacks.wait_for_ids(set(ids))
        ends = [await record(server, call_id, "?wait=30s") for call_id in ids]
    assert {end["status"] for end in ends} == {"succeeded"}
    assert (await queue(server, "held"))["paused"] is False


async def test_a_pause_for_a_while_ends_by_itself(server: Serving) -> None:
    await deploy(server, "later", "soon")
    shown = (await post(server, "soon/pause", **{"for": "3s"})).json()
    assert shown["paused_until"] is not None
    call_id = await server.accept("later", b"x")
    assert (await record(server, call_id, "?wait=30s"))["status"] == "succeeded"


async def test_what_is_purged_ends_as_cancelled_and_the_rest_stays(server: Serving) -> None:
    for name in ("purgeable", "spared"):
        await deploy(server, name, "purged")
    await post(server, "purged/pause")
    purged = [await server.accept("purgeable", b"x") for _ in range(40)]
    purged.append(await server.accept("purgeable", b"x", X_Delay="20m"))
    purged.append(await server.accept("purgeable", b"x", Idempotency_Key="k"))
    kept = await server.accept("spared", b"y")
    answer = (await post(server, "purged/purge", function="purgeable.openfaas-fn")).json()
    assert answer == {"purged": 42, "complete": True}
    ends = [await record(server, call_id) for call_id in purged]
    assert {(end["status"], end["reason"]) for end in ends} == {
        ("cancelled", "purged from its queue before it was run")
    }
    shown = await queue(server, "purged")
    assert (shown["waiting"], shown["scheduled"]) == (1, 0)
    await post(server, "purged/resume")
    assert (await record(server, kept, "?wait=30s"))["status"] == "succeeded"
    assert (await post(server, "purged/purge")).json() == {"purged": 0, "complete": True}


async def test_what_runs_is_not_purged(server: Serving) -> None:
    await deploy(server, "sleepy", "busy", image="holdfast/sleep:latest")
    await server.call("/function/sleepy?duration=0s")  # it has a replica then
    running = [await server.accept("sleepy?duration=10m") for _ in range(2)]
    async with asyncio.timeout(20):
        while (await queue(server, "busy"))["running"] < 2:
            pass
    waiting = await server.accept("sleepy?duration=1s")
    why = (await record(server, waiting))["waiting"]
    assert why == {"reason": "position", "position": 1, "text": "0 calls are in front of it in the queue busy"}
    assert (await record(server, running[0]))["waiting"] is None
    assert (await post(server, "busy/purge")).json()["purged"] == 1
    found = [await record(server, call_id) for call_id in (*running, waiting)]
    assert [one["status"] for one in found] == ["running", "running", "cancelled"]
    for call_id in running:
        assert (await server.call(f"/async-function/{call_id}", method="DELETE")).status_code == 202


async def test_a_call_that_waits_for_its_functions_first_replica_says_so(server: Serving) -> None:
    silent = {"service": "silent", "image": "x", "envProcess": "sleep 1000", "envVars": {"mode": "http"}}
    assert (await server.call("/system/functions", json.dumps(silent).encode())).status_code == 202
    call_id = await server.accept("silent")
    async with asyncio.timeout(20):
        while (shown := await record(server, call_id))["waiting"] is None or shown["status"] == "waiting":
            pass
    assert (shown["status"], shown["waiting"]["reason"]) == ("running", "function at zero")
    assert (await server.call(f"/async-function/{call_id}", method="DELETE")).status_code == 202


@pytest.mark.parametrize("name", ["holdfast", "_INBOX", "two words", "a.b"])
async def test_a_name_that_cannot_be_a_queue_is_refused_when_it_is_deployed(server: Serving, name: str) -> None:
    answer = await deploy(server, "wrong", name)
    assert answer.status_code == 400
    assert "com.openfaas.queue" in answer.text


async def test_a_dead_letter_is_replayed_in_the_queue_that_its_function_has_now(tmp_path: Path) -> None:
    environ = {"initial_retry_wait": "50ms", "max_retry_attempts": "1"}
    async with serving(tmp_path, "--no-auth", "--queue", "slow", environ=environ) as server:
        await server.call("/function/chaos/set", json.dumps({"status": 500, "times": 1}).encode())
        call_id = await server.accept("chaos")
        assert (await record(server, call_id, "?wait=30s"))["status"] == "failed"
        assert (await deploy(server, "chaos", "slow", image="holdfast/chaos:latest")).status_code == 202
        async with asyncio.timeout(20):
            while (await server.call("/function/chaos")).status_code != 200:
                pass
        # The gateway has seen the new annotation once a call of the function goes to its queue.
        async with asyncio.timeout(20):
            while (await record(server, await server.accept("chaos"), "?wait=30s"))["queue"] != "slow":
                pass
        replayed = await server.call("/system/dead-letters/replay", json.dumps({"id": call_id}).encode())
        assert replayed.status_code == 200
        end = await record(server, call_id, "?wait=30s")
        assert (end["status"], end["queue"]) == ("succeeded", "slow")


async def test_what_the_api_of_queues_cannot_do_it_says(server: Serving) -> None:
    for path in ("nosuch/pause", "nosuch/resume", "nosuch/purge", "holdfast/pause", "a%20b/pause"):
        assert (await post(server, path)).status_code == 404, path
    assert (await server.call("/system/queues/nosuch", method="GET")).status_code == 404
    for body in ({"for": "soon"}, {"for": "0s"}, {"for": "9000h"}, {"until": "10m"}):
        assert (await post(server, "slow/pause", **body)).status_code == 400, body
    assert (await post(server, "slow/purge", function="a b.c")).status_code == 400
    assert (await post(server, "slow/purge", function="*.*")).status_code == 400
    assert (await post(server, "slow/resume", now=True)).status_code == 400
    names = [one["name"] for one in (await server.call("/system/queues", method="GET")).json()]
    assert {"faas-request", "slow", "busy"} <= set(names)
    assert names == sorted(names)
