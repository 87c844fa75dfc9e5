import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.providers import RunningProvider, provider
from tests.support.raw_http import request

STACK = """
functions:
  cat:
    fprocess: cat
  pid:
    lang: python3-http
    handler: ./pid
"""
HANDLER = "import os\ndef handle(event, context):\n    return str(os.getpid())\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pid").mkdir()
    (tmp_path / "pid" / "handler.py").write_text(HANDLER)
    return tmp_path


def watchdogs(running: RunningProvider) -> list[psutil.Process]:
    return psutil.Process(running.process.pid).children()


async def test_a_killed_watchdog_runs_again_at_the_same_address(folder: Path) -> None:
    async with provider(STACK, folder) as running:
        port = await running.port("pid")
        first = int((await request(port)).text)
        os.kill(first, signal.SIGKILL)
        await running.logged("replica ended, starting it again")
        assert await running.port("pid") == port
        second = int((await request(port)).text)
        assert second != first
        assert "killed by signal 9" in (await running.get("/system/logs?name=pid")).text
        assert await running.port("cat"), "the others are not concerned"


async def test_a_call_that_comes_while_a_replica_starts_again_is_served(folder: Path) -> None:
    async with provider(STACK, folder) as running:
        port = await running.port("pid")
        pid = int((await request(port)).text)
        os.kill(pid, signal.SIGSTOP)
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            await asyncio.sleep(0)  # it takes nothing any more
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        os.kill(pid, signal.SIGKILL)
        assert (await asyncio.wait_for(reader.read(), 30)).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_replica_is_an_endpoint_only_while_it_is_ready(folder: Path) -> None:
    async with provider(STACK, folder) as running:
        port = await running.port("pid")
        # From now on it cannot start.
        (folder / "pid" / "handler.py").write_text("raise RuntimeError('broken now')\n")
        os.kill(int((await request(port)).text), signal.SIGKILL)
        await running.logged("replica ended, starting it again", times=2)
        found = (await running.get("/system/function/pid")).json()
        assert (found["replicas"], found["availableReplicas"], found["endpoints"]) == (1, 0, [])
        assert "RuntimeError: broken now" in (await running.get("/system/logs?name=pid")).text
        (folder / "pid" / "handler.py").write_text(HANDLER)
        assert await running.port("pid") == port


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_the_watchdogs_of_a_killed_provider_are_gone_at_once(folder: Path) -> None:
    async with provider(STACK, folder) as running:
        await asyncio.gather(running.ready("cat"), running.ready("pid"))
        found = watchdogs(running)
        assert len(found) == 2
        os.kill(running.process.pid, signal.SIGKILL)
        gone, alive = await asyncio.to_thread(psutil.wait_procs, found, 10)
        assert (len(gone), alive) == (2, [])


async def test_a_provider_that_is_stopped_lets_calls_finish_and_ends_with_0(folder: Path) -> None:
    (folder / "pid" / "handler.py").write_text(
        "import os, time\ndef handle(event, context):\n    print('begun', flush=True)\n"
        "    while not os.path.exists('go'):\n        time.sleep(0.01)\n    return 'finished'\n"
    )
    async with provider(STACK, folder, grace_period="20s") as running:
        port = await running.port("pid")
        await running.ready("cat")
        found = watchdogs(running)
        call = asyncio.create_task(request(port))
        async with running.client.stream("GET", "/system/logs?name=pid&follow=1") as stream:
            assert "begun" in await anext(stream.aiter_lines())
        os.kill(running.process.pid, signal.SIGTERM)
        await running.logged("stopping")
        (folder / "pid" / "go").touch()
        assert (await call).text == "finished"
        assert await asyncio.wait_for(running.process.wait(), 30) == 0
        assert not [process for process in found if process.is_running()]


async def test_functions_start_side_by_side(tmp_path: Path) -> None:
    # Each waits in its import until all have begun: one after the other none would become ready.
    names = [f"f{number}" for number in range(4)]
    stack = "functions:\n"
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "handler.py").write_text(
            f"import pathlib, time\npathlib.Path('../{name}.begun').touch()\n"
            f"while len(list(pathlib.Path('..').glob('*.begun'))) < {len(names)}:\n    time.sleep(0.01)\n"
            "def handle(event, context):\n    return 'ok'\n"
        )
        stack += f"  {name}:\n    lang: python3-http\n    handler: ./{name}\n"
    async with provider(stack, tmp_path) as running:
        assert all(await asyncio.gather(*(running.ready(name) for name in names)))


async def test_functions_do_not_see_the_providers_settings(tmp_path: Path) -> None:
    stack = "functions: {env: {fprocess: env, environment: {OWN: mine}}}"
    async with provider(stack, tmp_path, nats_url="nats://user:secret@host", exec_timeout="1s") as running:
        found = (await request(await running.port("env"))).text
    assert "secret" not in found
    assert "OWN=mine" in found
    assert "OPENFAAS_NAME=env" in found
    assert re.findall("HOLDFAST_[A-Z_]*", found) == ["HOLDFAST_RUNTIME"]


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ("functions: {f: {lang: go}}", "f: lang go cannot be run here without fprocess"),
        ("functions: {f: {lang: python3, handler: ./nowhere}}", "has no handler.py"),
        ("functions: {f: {fprocess: cat, environment: {exec_timeout: soon}}}", "exec_timeout='soon' cannot be used"),
        ("functions: [f]", "functions: expected a mapping"),
    ],
)
async def test_a_stack_that_cannot_run_ends_the_provider_with_the_reason(
    tmp_path: Path, stack: str, message: str
) -> None:
    async with provider(stack, tmp_path) as running:
        assert await asyncio.wait_for(running.process.wait(), 30) == 1
        await running.logged(message)


async def test_what_is_not_known_in_a_stack_is_a_warning(tmp_path: Path) -> None:
    async with provider("functions: {f: {fprocess: cat, colour: red}}", tmp_path) as running:
        await running.ready("f")
        await running.logged("functions.f.colour is not known and left out")


async def test_a_replica_that_cannot_be_started_says_why_and_is_once_it_can(tmp_path: Path) -> None:
    (tmp_path / "pid").mkdir()
    (tmp_path / "pid" / "handler.py").write_text(HANDLER)
    async with provider(STACK, tmp_path) as running:
        first = int((await request(await running.port("pid"))).text)
        (tmp_path / "pid").rename(tmp_path / "away")
        os.kill(first, signal.SIGKILL)
        await running.logged("replica ended, starting it again", times=3)
        error = (await running.get("/system/function/pid")).json()["lastError"]["message"]
        assert f"could not be started in {tmp_path / 'pid'}: No such file or directory" in error
        assert await running.port("cat"), "the others are not concerned"
        (tmp_path / "away").rename(tmp_path / "pid")
        assert (await request(await running.port("pid"))).status == 200
