"""Secrets from outside: a function reads them, and nobody is shown them."""

from __future__ import annotations

import base64
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.providers import RunningProvider, provider
from tests.support.raw_http import request

VALUE = "v3ry-pr1vate"
BYTES = b"\x00\xffraw-pr1vate\n"
PRIVATE = ("pr1vate", base64.b64encode(BYTES).decode())

SHOW = (
    "import os, pathlib, sys; sys.stdout.buffer.write(pathlib.Path(os.environ['HOLDFAST_SECRETS'], {!r}).read_bytes())"
)


def reads(name: str) -> str:
    return shlex.join([sys.executable, "-c", SHOW.format(name)])


async def put(running: RunningProvider, method: str = "POST", **document: Any) -> httpx.Response:
    return await running.client.request(method, "/system/secrets", json=document)


async def deploy(running: RunningProvider, name: str, process: str, *secrets: str) -> httpx.Response:
    document = {"service": name, "image": "i", "envProcess": process, "secrets": list(secrets)}
    return await running.client.post("/system/functions", json=document)


async def test_a_secret_is_read_and_shown_nowhere_else(tmp_path: Path) -> None:
    async with provider("functions: {}", tmp_path) as running:
        answers = [
            await put(running, name="key", value=VALUE),
            await put(running, name="raw", rawValue=base64.b64encode(BYTES).decode()),
            await deploy(running, "reads", reads("key"), "key", "raw"),
            await deploy(running, "raw", reads("raw"), "raw"),
            await deploy(running, "env", "env", "key"),
            await deploy(running, "broken", reads("not-there"), "key"),
        ]
        assert (await request(await running.port("reads"))).text == VALUE
        assert (await request(await running.port("raw"))).body == BYTES
        answers.append(await running.get("/system/secrets"))
        answers.append(await running.get("/system/functions"))
        answers += [await running.get(f"/system/function/{name}?usage=1") for name in ("reads", "raw", "env")]
        # What is refused says what is wrong with it, not what it was.
        refused = [
            await put(running, name="No Name", value=VALUE),
            await put(running, name="key", rawValue=VALUE + "!"),
            await put(running, name="key", value=[VALUE]),
            await put(running, name="key", rawValue={VALUE: 1}),
            await put(running, method="PUT", name="other", value=VALUE),
            await put(running, name="key", namespace="nowhere", value=VALUE),
            await running.client.post("/system/secrets", content=f'{{"name": "key", "value": "{VALUE}"'),
        ]
        assert [answer.status_code for answer in refused] == [400, 400, 400, 400, 404, 404, 400]
        shown = "".join(answer.text for answer in (*answers, *refused))
        shown += (await request(await running.port("env"))).text
        assert (await request(await running.port("broken"))).status == 500
        for name in ("reads", "raw", "env", "broken"):
            shown += (await running.get(f"/system/logs?name={name}")).text
        for watchdog in psutil.Process(running.process.pid).children():
            shown += str(watchdog.environ()) + " ".join(watchdog.cmdline())
        shown += "".join(running.lines) + (tmp_path / ".provider" / "state.json").read_text()
        for text in PRIVATE:
            assert text not in shown


async def test_the_files_of_secrets_are_for_their_owner_and_go_with_the_replica(tmp_path: Path) -> None:
    folder = tmp_path / ".provider"
    async with provider("functions: {}", tmp_path) as running:
        await put(running, name="key", value=VALUE)
        await deploy(running, "reads", reads("key"), "key")
        await running.ready("reads")
        files = [*(folder / "secrets").rglob("key"), *(folder / "functions").rglob("key")]
        assert len(files) == 2
        for file in files:
            assert file.stat().st_mode & 0o777 == 0o600
            assert file.parent.stat().st_mode & 0o777 == 0o700
    assert list((folder / "functions").rglob("key")) == []
    assert (folder / "secrets" / "openfaas-fn" / "key").read_text() == VALUE


async def test_a_new_value_is_for_replicas_that_start_after_it(tmp_path: Path) -> None:
    async with provider("functions: {}", tmp_path) as running:
        await put(running, name="key", value="one")
        await deploy(running, "reads", reads("key"), "key")
        assert (await request(await running.port("reads"))).text == "one"
        assert (await put(running, method="PUT", name="key", value="two")).status_code == 200
        assert (await request(await running.port("reads"))).text == "one"
        await deploy(running, "reads", reads("key"), "key")
        await running.get("/system/function/reads?wait=30s&for=update")
        assert (await request(await running.port("reads"))).text == "two"


async def test_without_its_secret_a_function_gets_no_further_replicas_and_keeps_those_it_has(tmp_path: Path) -> None:
    async with provider("functions: {}", tmp_path) as running:
        await put(running, name="key", value="one")
        await deploy(running, "reads", reads("key"), "key")
        port = await running.port("reads")
        removed = await running.client.request("DELETE", "/system/secrets", json={"name": "key"})
        assert removed.status_code == 202
        answer = await running.client.post("/system/scale-function/reads", json={"replicas": 3})
        assert (answer.status_code, answer.text) == (
            400,
            "reads: there is no secret 'key' in openfaas-fn: create it first\n",
        )
        document = (await running.get("/system/function/reads")).json()
        assert (document["replicas"], document["availableReplicas"]) == (1, 1)
        assert (await request(port)).text == "one"
        (watchdog,) = psutil.Process(running.process.pid).children()
        os.kill(watchdog.pid, 9)
        await running.logged("replica ended, starting it again")
        assert (await request(await running.port("reads"))).text == "one"


async def test_a_function_whose_secret_is_gone_at_a_restart_is_there_says_why_and_runs_once_it_is_back(
    tmp_path: Path,
) -> None:
    async with provider("functions: {}", tmp_path) as running:
        await put(running, name="key", value="one")
        await deploy(running, "reads", reads("key"), "key")
        await running.ready("reads")
        await running.client.request("DELETE", "/system/secrets", json={"name": "key"})
    async with provider("functions: {}", tmp_path) as running:
        said = "reads: there is no secret 'key' in openfaas-fn: create it first"
        document = (await running.get("/system/function/reads?wait=100ms")).json()
        assert (document["replicas"], document["availableReplicas"]) == (1, 0)
        assert document["lastError"]["message"] == said
        assert (await running.get("/system/logs?name=reads")).text.count(said) == 1
        answer = await running.client.post("/system/scale-function/reads", json={"replicas": 2})
        assert (answer.status_code, answer.text) == (400, f"{said}\n")
        await put(running, name="key", value="two")
        assert (await request(await running.port("reads"))).text == "two"
        assert "lastError" not in (await running.get("/system/function/reads")).json()
