"""What holds the processes of a replica: memory is not exceeded for long, and nothing outlives its replica."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from holdfast.process import start
from holdfast.provider.cgroups import NoGroups, open_groups
from holdfast.provider.leftovers import MARK
from holdfast.provider.memory import over_limit
from tests.support.providers import RunningProvider, provider
from tests.support.raw_http import request

TIMEOUT_S = 60.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's /proc tells of processes")

GREEDY = """
import time
kept = []
def handle(event, context):
    if event.path == "/take":
        kept.append(b"x" * 300 * 2**20)
        print("taken", flush=True)
        time.sleep(60)
    return "fine"
"""

# Starts a process in a session of its own: it survives the end of its parent.
STRAY = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen(\n"
    "    [sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True,\n"
    "    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
)


async def describe(running: RunningProvider, name: str) -> dict[str, Any]:
    document: dict[str, Any] = (await running.get(f"/system/function/{name}")).json()
    return document


async def until(running: RunningProvider, name: str, key: str, least: int) -> dict[str, Any]:
    """The description once a number in it is so high: the API tells of states, not of changes."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            document = await describe(running, name)
            if document[key] >= least:
                return document
            await asyncio.sleep(0.05)


async def gone(pid: int) -> None:
    """Return once a process has ended. A process that nobody waits for any more counts as ended."""
    async with asyncio.timeout(TIMEOUT_S):
        with suppress(psutil.NoSuchProcess):
            while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.05)


async def texts(running: RunningProvider, name: str) -> list[str]:
    answer = await running.get(f"/system/logs?name={name}")
    return [json.loads(line)["text"] for line in answer.text.splitlines()]


def handler(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "handler.py").write_text(text)
    return folder


async def test_a_function_that_takes_too_much_memory_is_stopped_and_its_log_and_description_say_so(
    tmp_path: Path,
) -> None:
    handler(tmp_path / "greedy", GREEDY)
    stack = "functions: {greedy: {lang: python3-http, handler: ./greedy, limits: {memory: 128Mi}}}"
    async with provider(stack, tmp_path, function_cgroup="none") as running:
        await running.logged("memory limits are looked at each second")
        port = await running.port("greedy")
        assert (await request(port)).text == "fine"
        call = asyncio.create_task(request(port, "/take"))
        document = await until(running, "greedy", "restarts", 1)
        with pytest.raises(ConnectionError):
            await call
        assert document["lastError"]["message"].startswith("the memory limit of 128Mi was exceeded: ")
        (said,) = [text for text in await texts(running, "greedy") if "[error]" in text]
        assert "MiB in 1 process, the replica was stopped; it is started again" in said
        assert (await request(await running.port("greedy"))).text == "fine"


async def test_the_memory_of_what_a_command_starts_counts_as_well(tmp_path: Path) -> None:
    take = "import time; kept = [b'x' * 60 * 2**20]; time.sleep(60)"
    script = (
        f"import subprocess, sys\n"
        f"children = [subprocess.Popen([sys.executable, '-c', {take!r}]) for _ in range(3)]\n"
        f"[child.wait() for child in children]\n"
    )
    environment = {"fprocess": shlex.join([sys.executable, "-c", script])}
    stack = json.dumps({"functions": {"family": {"environment": environment, "limits": {"memory": "128Mi"}}}})
    async with provider(stack, tmp_path, function_cgroup="none") as running:
        call = asyncio.create_task(request(await running.port("family")))
        document = await until(running, "family", "restarts", 1)
        assert re.search(r"MiB in [3-5] processes", document["lastError"]["message"])
        call.cancel()


async def test_shared_memory_is_not_counted_once_for_each_who_shares_it() -> None:
    script = (
        "import os, time\nkept = b'x' * 60 * 2**20\n"
        "for _ in range(4):\n    if os.fork() == 0:\n        break\n"
        "print(os.getpid(), flush=True)\ntime.sleep(60)\n"
    )
    lines: asyncio.Queue[str] = asyncio.Queue()
    async with start([sys.executable, "-c", script], on_line=lambda _, line: lines.put_nowait(line)) as process:
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(5):
                await lines.get()
        assert over_limit({process.pid: 200 * 2**20}) == {}
        (use,) = over_limit({process.pid: 50 * 2**20}).values()
        assert len(use.processes) == 5
        assert 60 * 2**20 <= use.size < 120 * 2**20
        assert over_limit({2**22: 1}) == {}, "a process that is gone"


async def test_what_is_not_enforced_is_said_in_answer_log_and_description(tmp_path: Path) -> None:
    async with provider("functions: {}", tmp_path, function_cgroup="none") as running:
        limited = {"service": "f", "image": "i", "envProcess": "cat", "limits": {"cpu": "500m", "memory": "64Mi"}}
        answer = await running.client.post("/system/functions", json=limited)
        said = "limits.cpu=500m is not enforced on this machine: function_cgroup is none"
        assert (answer.status_code, answer.text) == (202, f"warning: {said}\n")
        assert (await describe(running, "f"))["warnings"] == [said]
        assert await texts(running, "f") == [f"[warning] {said}"]
        await running.logged("deployment not wholly enforced")
        del limited["limits"]
        answer = await running.client.post("/system/functions", json=limited)
        assert (answer.status_code, answer.text) == (202, "")
        assert "warnings" not in await describe(running, "f")


async def test_a_replica_runs_in_a_group_with_its_limits_where_there_is_one(tmp_path: Path) -> None:
    # The kernel's files, in a plain folder: what is written where. Only a real group enforces it.
    base = tmp_path / "group"
    base.mkdir()
    (base / "cgroup.controllers").write_text("cpu memory")
    (base / "cgroup.procs").write_text("")
    stack = "functions: {f: {fprocess: cat, limits: {memory: 64Mi, cpu: 500m}}}"
    async with provider(stack, tmp_path, function_cgroup=str(base)) as running:
        await running.logged("limits are enforced by the kernel")
        document = await running.ready("f")
        assert "warnings" not in document
        (group,) = base.glob("fn-*-f-*")
        assert {path.name: path.read_text().strip() for path in group.iterdir()} == {
            "memory.max": str(64 * 2**20),
            "memory.oom.group": "1",
            "cpu.max": "50000 100000",
            "cgroup.procs": "0",
        }
        # As the kernel ends a group for its memory.
        (group / "memory.events").write_text("oom_kill 3\n")
        (watchdog,) = psutil.Process(running.process.pid).children()
        watchdog.kill()
        document = await until(running, "f", "restarts", 1)
        assert document["lastError"]["message"] == (
            "the memory limit of 64Mi was exceeded: the kernel stopped the replica"
        )
        assert (await request(await running.port("f"), body=b"on")).text == "on"


async def test_the_kernel_enforces_limits_where_a_group_was_delegated(tmp_path: Path) -> None:
    # Such as by `systemd-run --user --scope -p Delegate=yes`; HOLDFAST_TEST_CGROUP may name another.
    named = os.environ.get("HOLDFAST_TEST_CGROUP", "auto")
    try:
        groups = await asyncio.to_thread(open_groups, named, "test")
    except NoGroups as error:
        pytest.skip(str(error))
    handler(tmp_path / "greedy", GREEDY)
    stack = "functions: {greedy: {lang: python3-http, handler: ./greedy, limits: {memory: 128Mi, cpu: 500m}}}"
    async with provider(stack, tmp_path, function_cgroup=named) as running:
        await running.logged("limits are enforced by the kernel")
        port = await running.port("greedy")
        (group,) = groups.base.glob("fn-*-greedy-*")
        assert (group / "cpu.max").read_text() == "50000 100000\n"
        with pytest.raises(ConnectionError):
            await request(port, "/take")
        document = await until(running, "greedy", "restarts", 1)
        assert "the kernel stopped the replica" in document["lastError"]["message"]
        assert (await request(await running.port("greedy"))).text == "fine"
    assert not group.exists()


@pytest.mark.parametrize("ended", ["killed", "removed"])
async def test_what_a_replica_started_does_not_outlive_it(tmp_path: Path, ended: str) -> None:
    # Of a handler the child, of a forked command a grandchild of the watchdog, each in a session of its own.
    handler(tmp_path / "python", STRAY + "def handle(event, context):\n    return str(child.pid)\n")
    command = shlex.join([sys.executable, "-c", STRAY + "print(child.pid)"])
    functions = {"python": {"lang": "python3-http", "handler": "./python"}, "command": {"fprocess": command}}
    async with provider(json.dumps({"functions": functions}), tmp_path) as running:
        left = [int((await request(await running.port(name))).text) for name in functions]
        for pid in left:
            assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= 500, "the first to go, before Holdfast itself"
        assert all(psutil.pid_exists(pid) for pid in left)
        if ended == "killed":
            for watchdog in psutil.Process(running.process.pid).children():
                watchdog.kill()
        else:
            for name in functions:
                body = json.dumps({"functionName": name})
                assert (await running.client.request("DELETE", "/system/functions", content=body)).is_success
        await asyncio.gather(*map(gone, left))
        if ended == "killed":
            assert (await request(await running.port("command"))).status == 200, "the next one is not among them"


async def test_what_a_killed_provider_left_is_ended_when_it_starts_again(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-c", STRAY + "print(child.pid)"])
    stack = json.dumps({"functions": {"f": {"fprocess": command}, "other": {"fprocess": "cat"}}})
    async with provider(stack, tmp_path) as first:
        left = int((await request(await first.port("f"))).text)
        os.kill(first.process.pid, signal.SIGKILL)
        await first.process.wait()
    assert psutil.pid_exists(left), "nobody is there to end it"
    async with provider(stack, tmp_path) as second:
        await second.logged("processes of an earlier run were still there and were killed")
        await gone(left)


async def test_another_runtimes_processes_are_left_alone(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-c", STRAY + "print(child.pid)"])
    stack = json.dumps({"functions": {"f": {"fprocess": command}}})
    async with provider(stack, tmp_path) as first:
        left = int((await request(await first.port("f"))).text)
        mark = psutil.Process(left).environ()[MARK]
        async with provider(stack, tmp_path, provider_data=str(tmp_path / "other")) as second:
            port = await second.port("f")
            other = int((await request(port)).text)
            assert psutil.Process(other).environ()[MARK] != mark
            for process in psutil.Process(second.process.pid).children():
                process.kill()
            await gone(other)
        assert psutil.pid_exists(left)


async def test_a_folder_serves_one_provider_at_a_time(tmp_path: Path) -> None:
    async with provider("functions: {f: {fprocess: cat}}", tmp_path) as first:
        await first.ready("f")
        async with provider("functions: {}", tmp_path) as second:
            assert await asyncio.wait_for(second.process.wait(), TIMEOUT_S) == 1
            await second.logged("another provider uses the folder")
        assert (await request(await first.port("f"), body=b"on")).text == "on"
