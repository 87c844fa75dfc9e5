import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.raw_http import request
from tests.support.watchdogs import handler, watchdog

# Reports each call, and holds it until a file of its name is there.
GATE = """
import os, time
def handle(event, context):
    print("begun", event.body.decode(), flush=True)
    while not os.path.exists(event.body.decode()):
        time.sleep(0.01)
    return "done"
"""

SLEEPER = "sh -c 'echo pid $$ >&2; exec sleep 600'"


async def test_more_calls_than_max_inflight_are_429_with_openfaas_text(tmp_path: Path) -> None:
    async with watchdog(handler=handler(tmp_path, GATE), max_inflight="2") as running:
        held = [asyncio.create_task(request(running.port, body=b"%d" % n)) for n in range(2)]
        for n in range(2):
            await running.logged(f"begun {n}")
        refused = await request(running.port, body=b"x")
        assert refused.status == 429
        assert refused.text == "Concurrent request limit exceeded. Max concurrent requests: 2\n"
        assert (await request(running.port, "/_/ready", method="GET")).status == 429
        assert (await request(running.port, "/_/health", method="GET")).status == 200
        for n in range(2):
            (tmp_path / str(n)).touch()
        assert [answer.text for answer in await asyncio.gather(*held)] == ["done", "done"]
        assert (await request(running.port, "/_/ready", method="GET")).status == 200
        (tmp_path / "x").touch()
        assert (await request(running.port, body=b"x")).text == "done"


async def test_an_upload_that_is_given_up_gives_its_slot_back(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    async with watchdog(handler=handler(tmp_path, GATE), max_inflight="1") as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        async with asyncio.timeout(20):
            while (await request(running.port, "/_/ready", method="GET")).status != 429:
                pass
            writer.close()
            while (await request(running.port, body=b"x")).status != 200:
                pass


async def test_a_body_over_the_limit_gives_its_slot_back(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    async with watchdog(handler=handler(tmp_path, GATE), max_inflight="1", max_body_bytes="5") as running:
        for _ in range(3):
            assert (await request(running.port, body=b"too long")).status == 413
        assert (await request(running.port, body=b"x")).text == "done"


async def test_every_other_path_is_the_functions() -> None:
    async with watchdog(fprocess="printenv Http_Path") as running:
        for path in ("/", "/_/", "/_/healthy", "/healthz", "/x/_/health", "/_/health/x"):
            assert (await request(running.port, path, method="GET")).text == f"{path}\n"
        assert (await request(running.port, "/_/health?x=1", method="GET")).text == "OK\n"


async def test_sigterm_lets_what_runs_finish_and_ends_with_0(tmp_path: Path) -> None:
    async with watchdog(handler=handler(tmp_path, GATE), grace_period="20s") as running:
        held = asyncio.create_task(request(running.port, body=b"gate"))
        await running.logged("begun gate")
        running.terminate()
        (tmp_path / "gate").touch()
        assert (await held).text == "done"
        assert await asyncio.wait_for(running.process.wait(), 20) == 0


async def test_after_the_grace_period_sigterm_ends_what_still_runs() -> None:
    async with watchdog(fprocess=SLEEPER, grace_period="300ms") as running, asyncio.timeout(20):
        held = asyncio.create_task(request(running.port))
        sleeper = int((await running.logged("pid")).split()[1])
        running.terminate()
        assert await running.process.wait() == 0
        assert not psutil.pid_exists(sleeper)
        with contextlib.suppress(ConnectionError):
            await held


async def test_a_second_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    async with watchdog(handler=handler(tmp_path, GATE), grace_period="600s") as running, asyncio.timeout(20):
        held = asyncio.create_task(request(running.port, body=b"never"))
        await running.logged("begun")
        idle, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /_/health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await idle.readuntil(b"OK\n")).startswith(b"HTTP/1.1 200")
        running.terminate()
        assert await idle.read() == b"", "idle connections are closed: it has heard the first signal"
        writer.close()
        running.terminate()
        assert await running.process.wait() == 130
        with pytest.raises(ConnectionError):
            await held


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_the_commands_of_a_killed_watchdog_are_killed_too() -> None:
    async with watchdog(fprocess=SLEEPER) as running, asyncio.timeout(20):
        held = asyncio.create_task(request(running.port))
        sleeper = psutil.Process(int((await running.logged("pid")).split()[1]))
        os.kill(running.process.pid, signal.SIGKILL)
        await asyncio.to_thread(sleeper.wait)
        with contextlib.suppress(ConnectionError):
            await held


def test_started_by_hand_it_binds_its_own_port_and_says_where_it_is() -> None:
    environ = {**os.environ, "fprocess": "cat", "port": "0"}
    with subprocess.Popen(
        [sys.executable, "-m", "holdfast.watchdog"], env=environ, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("[info] watchdog ready url=http://127.0.0.1:")
        port = int(line.rsplit(":", 1)[1])
        assert asyncio.run(request(port, body=b"hi")).body == b"hi"
        process.terminate()
        assert process.wait(20) == 0


async def test_bodies_are_logged_only_on_demand(tmp_path: Path) -> None:
    text = "def handle(event, context):\n    return 'the answer'\n"
    async with watchdog(handler=handler(tmp_path, text), write_debug="true") as running:
        await request(running.port, body=b"the question")
        await running.logged("the question")
        await running.logged("the answer")
    async with watchdog(handler=handler(tmp_path, text)) as running:
        await request(running.port, body=b"the question")
        running.terminate()
        await running.process.wait()
        assert running.lines == []
