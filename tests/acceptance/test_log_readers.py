"""A service goes on whatever becomes of those who read what it prints."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from holdfast import sockets
from tests.support.metrics import Metrics
from tests.support.receiver import receiver
from tests.support.serving import HOLDFAST

READY_WITHIN_S = 60.0
CALLED_BACK_WITHIN_S = 20.0


class Served:
    """A `holdfast serve` of which only its ready file is known."""

    def __init__(self, process: asyncio.subprocess.Process, ready: Path) -> None:
        self.process = process
        self._ready = ready

    @property
    def parts(self) -> dict[str, object]:
        content: dict[str, object] = json.loads(self._ready.read_text())
        return content

    def pids(self, name: str) -> list[int]:
        """The processes of a part; none between the death of one and the start of the next."""
        processes = self.parts["processes"]
        assert isinstance(processes, dict)
        return list(processes.get(name, []))


@contextlib.asynccontextmanager
async def served(folder: Path, output: int, *, errors: int | None = None) -> AsyncIterator[Served]:
    """One that writes into a descriptor; on leaving it must still be there, and stop in order."""
    ready = folder / "ready.json"
    process = await asyncio.create_subprocess_exec(
        HOLDFAST,
        *("serve", "--port", "0", "--metrics-port", "0", "--data", str(folder / "data"), "--ready-file", str(ready)),
        *("--no-auth", "--durability", "os"),
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
        stdout=output,
        stderr=output if errors is None else errors,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            while not ready.exists():
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield Served(process, ready)
        assert process.returncode is None
        process.terminate()
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def is_well(server: Served) -> Metrics:
    """Calls are accepted, run and called back, also after parts were killed; the lines that are lost are counted."""
    async with receiver() as receiving, httpx.AsyncClient(trust_env=False, timeout=60) as client:
        gateway, metrics = server.parts["gateway"], server.parts["metrics"]

        async def call() -> None:
            answer = await client.post(
                f"{gateway}/async-function/echo", content=b"x", headers={"X-Callback-Url": receiving.url}
            )
            assert answer.status_code == 202
            await receiving.wait_for_ids({answer.headers["X-Call-Id"]}, CALLED_BACK_WITHIN_S)

        await call()
        # Each of these makes the supervisor and the part that comes after it write.
        for name in ("worker", "provider"):
            before = server.pids(name)
            os.kill(before[0], signal.SIGKILL)
            async with asyncio.timeout(30):
                while server.pids(name) in ([], before):
                    await asyncio.sleep(0.05)
            await call()
        return Metrics((await client.get(f"{metrics}/metrics")).text)


async def test_a_server_goes_on_when_nobody_reads_its_log_any_more(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    async with served(tmp_path, write_end) as server:
        os.close(write_end)
        os.close(read_end)
        metrics = await is_well(server)
        assert metrics.total("holdfast_log_lines_dropped_total", part="serve") >= 2
        assert metrics.total("holdfast_log_lines_dropped_total", part="worker") >= 1
        assert metrics.total("holdfast_log_lines_dropped_total", part="provider") >= 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
async def test_a_server_goes_on_when_there_is_no_room_for_its_log(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        async with served(tmp_path, full.fileno()) as server:
            metrics = await is_well(server)
            # The banner was not printed either.
            assert metrics.total("holdfast_log_lines_dropped_total", part="serve") >= 3


async def test_a_server_goes_on_while_the_reader_of_its_log_hangs(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write_end, b"x" * 4096)
    os.set_blocking(write_end, True)
    try:
        async with served(tmp_path, write_end) as server:
            await is_well(server)
    finally:
        os.close(read_end)
        os.close(write_end)


async def test_a_server_goes_on_when_its_banner_was_read_in_part(tmp_path: Path) -> None:
    """`holdfast serve | head -2`."""
    log = (tmp_path / "log").open("wb")
    read_end, write_end = os.pipe()
    head = await asyncio.create_subprocess_exec("head", "-2", stdin=read_end, stdout=asyncio.subprocess.PIPE)
    os.close(read_end)
    with log:
        async with served(tmp_path, write_end, errors=log.fileno()) as server:
            os.close(write_end)
            shown, _ = await head.communicate()
            assert shown.count(b"\n") == 2
            await is_well(server)
    assert "Traceback" not in (tmp_path / "log").read_text()


HANDLER = """
import sys
def handle(event, context):
    print("from the handler", event.body)
    print("an error", file=sys.stderr, flush=True)
    return {"statusCode": 200, "body": "done"}
"""


@pytest.mark.parametrize("how", ["gone", "full"])
async def test_a_function_answers_though_what_it_prints_cannot_be_written(tmp_path: Path, how: str) -> None:
    (tmp_path / "handler.py").write_text(HANDLER)
    read_end, write_end = os.pipe()
    if how == "gone":
        os.close(read_end)
    else:
        os.dup2(os.open("/dev/full", os.O_WRONLY), write_end)
    port = sockets.unlikely_port()
    process = await asyncio.create_subprocess_exec(
        HOLDFAST,
        "watchdog",
        env={**os.environ, "handler": str(tmp_path), "port": str(port)},
        stdout=write_end,
        stderr=write_end,
        start_new_session=True,
    )
    os.close(write_end)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            async with asyncio.timeout(30):
                while True:
                    with contextlib.suppress(httpx.ConnectError):
                        await client.get(f"http://127.0.0.1:{port}/_/health")
                        break
                    await asyncio.sleep(0.05)
            for _ in range(3):
                answer = await client.post(f"http://127.0.0.1:{port}/", content=b"x")
                assert (answer.status_code, answer.text) == (200, "done")
        process.terminate()
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
