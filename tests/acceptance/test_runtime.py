"""Functions that come and go while they are called: deployed, updated, scaled, given secrets, kept over restarts."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.receiver import receiver
from tests.support.serving import Serving, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, "--no-auth") as started:
        yield started


async def send(server: Serving, method: str, path: str, **document: Any) -> int:
    answer = await server.call(path, json.dumps(document).encode(), method=method)
    assert answer.status_code < 500, answer.text
    return answer.status_code


async def deploy(server: Serving, name: str, process: str, **more: Any) -> int:
    return await send(server, "POST", "/system/functions", service=name, image="command", envProcess=process, **more)


async def describe(server: Serving, name: str, query: str = "") -> dict[str, Any]:
    answer = await server.call(f"/system/function/{name}{query}", method="GET")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def until(server: Serving, name: str, **wanted: Any) -> None:
    """Return once the description says so: the API tells of states, not of changes."""
    async with asyncio.timeout(30):
        while True:
            document = await describe(server, name)
            if all(document[key] == value for key, value in wanted.items()):
                return
            await asyncio.sleep(0.05)


async def test_what_was_deployed_is_there_after_a_restart_with_its_replicas(tmp_path: Path) -> None:
    async with serving(tmp_path, "--no-auth") as server:
        assert await deploy(server, "shout", "tr a-z A-Z", labels={"team": "a"}) == 202
        assert await send(server, "POST", "/system/scale-function/shout", replicas=2) == 202
        before = await describe(server, "shout")
    async with serving(tmp_path, "--no-auth") as server:
        assert (await server.call("/function/shout", b"hi")).text == "HI"
        after = await describe(server, "shout", "?wait=10s")
        for key in ("createdAt", "labels", "envProcess", "image", "replicas"):
            assert after[key] == before[key]
        assert after["replicas"] == 2
        server.kill("provider")
        await server.logged("started again")
        assert (await describe(server, "shout", "?wait=10s"))["availableReplicas"] >= 1
        assert (await server.call("/function/shout", b"again")).text == "AGAIN"


async def test_a_new_version_takes_over_under_load_and_no_call_fails(server: Serving) -> None:
    assert await deploy(server, "version", "echo one") == 202
    assert (await server.call("/function/version")).text == "one\n"
    answers: Counter[tuple[int, str]] = Counter()
    done = asyncio.Event()

    async def call_on_and_on() -> None:
        while not done.is_set():
            answer = await server.call("/function/version")
            answers[answer.status_code, answer.text] += 1

    async with asyncio.TaskGroup() as callers:
        for _ in range(64):
            callers.create_task(call_on_and_on())
        assert await deploy(server, "version", "echo two") == 202
        async with asyncio.timeout(60):
            while answers[200, "two\n"] < 200:
                await asyncio.sleep(0.05)
        done.set()
    assert set(answers) == {(200, "one\n"), (200, "two\n")}
    await until(server, "version", replicas=1, availableReplicas=1)


async def test_fewer_replicas_under_load_cost_no_call(server: Serving) -> None:
    assert await deploy(server, "fewer", "cat", labels={"com.openfaas.scale.min": "3"}) == 202
    await until(server, "fewer", availableReplicas=3)
    statuses: Counter[int] = Counter()
    done = asyncio.Event()

    async def call_on_and_on() -> None:
        while not done.is_set():
            statuses[(await server.call("/function/fewer", b"x")).status_code] += 1

    async with asyncio.TaskGroup() as callers:
        for _ in range(16):
            callers.create_task(call_on_and_on())
        provider = psutil.Process(server.ready["processes"]["provider"][0])
        before = len(provider.children())
        assert await send(server, "POST", "/system/scale-function/fewer", replicas=1) == 202
        async with asyncio.timeout(60):
            while len(provider.children()) > before - 2:
                await asyncio.sleep(0.05)
        done.set()
    assert set(statuses) == {200}


async def test_a_version_that_does_not_start_does_not_replace_one_that_works(server: Serving) -> None:
    assert await deploy(server, "steady", "echo works") == 202
    assert (await server.call("/function/steady")).text == "works\n"
    # The watchdog itself refuses this setting, so the replica never becomes ready … or the deployment is refused.
    status = await deploy(server, "steady", "echo broken", envVars={"exec_timeout": "never"})
    assert status == 400
    assert (await server.call("/function/steady")).text == "works\n"


async def test_scaled_to_zero_a_call_starts_one_replica_and_is_answered(server: Serving) -> None:
    assert await deploy(server, "sleepy", "cat") == 202
    await until(server, "sleepy", availableReplicas=1)
    assert await send(server, "POST", "/system/scale-function/sleepy", replicas=0) == 202
    await until(server, "sleepy", replicas=0, availableReplicas=0)
    answers = await asyncio.gather(*(server.call("/function/sleepy", b"awake") for _ in range(50)))
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, "awake")}
    await until(server, "sleepy", replicas=1, availableReplicas=1)


async def test_an_asynchronous_call_wakes_a_function_as_well(server: Serving) -> None:
    assert await send(server, "POST", "/system/scale-function/echo", replicas=0) == 202
    await until(server, "echo", availableReplicas=0)
    async with receiver() as callbacks:
        await server.accept("echo", b"awake", X_Callback_Url=callbacks.url)
        (callback,) = await callbacks.wait_for(1)
        assert (callback["X-Function-Status"], callback.body) == ("200", b"awake")


async def test_an_update_raises_the_replicas_to_its_minimum_and_wakes_nobody(server: Serving) -> None:
    assert await deploy(server, "grows", "cat") == 202
    assert await deploy(server, "grows", "cat", labels={"com.openfaas.scale.min": "2"}) == 202
    await until(server, "grows", replicas=2, availableReplicas=2)
    assert await deploy(server, "grows", "cat") == 202
    await until(server, "grows", replicas=2)
    assert await send(server, "POST", "/system/scale-function/grows", replicas=0) == 202
    assert await deploy(server, "grows", "cat", labels={"com.openfaas.scale.min": "2"}) == 202
    await until(server, "grows", replicas=0, availableReplicas=0)


async def test_replicas_share_the_calls(server: Serving) -> None:
    assert await deploy(server, "many", "sh -c 'echo $HOSTNAME'", labels={"com.openfaas.scale.min": "3"}) == 202
    await until(server, "many", replicas=3, availableReplicas=3)
    seen: Counter[str] = Counter()
    async with asyncio.timeout(30):
        while len(seen) < 3:
            seen[(await server.call("/function/many")).text] += 1


async def test_a_secret_is_a_file_for_its_function_and_shown_to_nobody(server: Serving) -> None:
    assert await send(server, "POST", "/system/secrets", name="api-key", value="s3cr3t-value") == 201
    assert await deploy(server, "reads", "sh -c 'cat $HOLDFAST_SECRETS/api-key'", secrets=["api-key"]) == 202
    assert (await server.call("/function/reads")).text == "s3cr3t-value"
    shown = (await server.call("/system/secrets", method="GET")).text + json.dumps(await describe(server, "reads"))
    assert "s3cr3t" not in shown
    assert "s3cr3t" not in server.log
    (path,) = (server.folder / "data/provider/secrets").rglob("api-key")
    assert path.stat().st_mode & 0o777 == 0o600
    assert await deploy(server, "nosy", "cat", secrets=["../../state.json"]) == 400


async def test_a_removed_function_is_gone_and_its_waiting_calls_end_with_404(tmp_path: Path) -> None:
    async with receiver() as callbacks:
        async with serving(tmp_path, "--no-auth", "--workers", "0") as server:
            assert await deploy(server, "short", "cat") == 202
            assert (await server.call("/function/short", b"x")).status_code == 200
            await server.accept("short", X_Callback_Url=callbacks.url)
            assert await send(server, "DELETE", "/system/functions", functionName="short") == 202
            assert (await server.call("/system/function/short", method="GET")).status_code == 404
        async with serving(tmp_path, "--no-auth"):
            (callback,) = await callbacks.wait_for(1)
            assert callback["X-Function-Status"] == "404"


@pytest.mark.parametrize(
    "document",
    [
        {"service": "Upper", "image": "i", "envProcess": "cat"},
        {"service": "a/../b", "image": "i", "envProcess": "cat"},
        {"service": "x" * 64, "image": "i", "envProcess": "cat"},
        {"service": "ok", "envProcess": "cat"},
        {"service": "ok", "image": "nothing:latest"},
        {"service": "ok", "image": "i", "envProcess": "cat", "limits": {"memory": "lots"}},
        {"service": "ok", "image": "i", "envProcess": "cat", "envVars": {"A=B": "c"}},
        {"service": "ok", "image": "i", "envProcess": "cat", "envVars": {"A": 1}},
        {"service": "ok", "image": "i", "envProcess": "cat", "namespace": "No/Such"},
        {"service": "ok", "image": "i", "envProcess": "cat", "labels": ["a"]},
        {"service": "ok", "image": "i", "envProcess": "cat", "secrets": ["not-there"]},
        [],
        None,
    ],
)
async def test_a_deployment_that_cannot_be_is_refused_with_a_reason(server: Serving, document: Any) -> None:
    answer = await server.call("/system/functions", json.dumps(document).encode())
    assert answer.status_code == 400
    assert len(answer.text) > 20
    assert (await server.call("/system/function/ok", method="GET")).status_code == 404


async def test_a_function_whose_folder_is_gone_costs_no_other_function_anything(tmp_path: Path) -> None:
    folder = tmp_path / "handler"
    folder.mkdir()
    (folder / "handler.py").write_text("def handle(event, context):\n    return 'here'\n")
    stack = tmp_path / "stack.yml"
    stack.write_text(
        "version: 1.0\nprovider: {name: openfaas}\nfunctions:\n"
        "  here: {lang: python3-http, handler: ./handler, image: h}\n  cat: {fprocess: cat, image: c}\n"
    )
    async with serving(tmp_path, "--no-auth", "--stack", str(stack)) as server:
        assert (await server.call("/function/here")).text == "here"
        shutil.rmtree(folder)
        assert await send(server, "POST", "/system/scale-function/here", replicas=2) in {202, 400}
        assert (await server.call("/function/cat", b"still")).text == "still"
        assert (await describe(server, "here"))["availableReplicas"] >= 1
        assert len(server.ready["processes"]["provider"]) == 1
        assert "ended, starting it again" not in server.log
