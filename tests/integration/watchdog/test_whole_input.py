"""A command sees the whole body or none, whoever is killed while it reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.raw_http import request
from tests.support.readers import SIZE, begun, script, sizes
from tests.support.watchdogs import python, watchdog

KILLS = 6
READING_S = 0.15


@pytest.mark.skipif(sys.platform != "linux", reason="a group ends with its parent on Linux")
@pytest.mark.parametrize("mode", ["serializing", "streaming"])
@pytest.mark.parametrize("kind", ["reader", "pipeline"])
async def test_no_reader_takes_the_end_of_its_watchdog_for_the_end_of_the_body(
    mode: str, kind: str, tmp_path: Path
) -> None:
    command = str(script(tmp_path, kind))
    dice = random.Random(seed := secrets.randbits(32))  # noqa: S311 - the same moments again from the same seed
    for number in range(KILLS):
        async with watchdog(fprocess=command, mode=mode) as running, asyncio.timeout(60):
            call = asyncio.create_task(request(running.port, body=b"x" * SIZE))
            while begun(tmp_path) <= number:
                await asyncio.sleep(0.005)
            started = running.children()
            await asyncio.sleep(dice.uniform(0, READING_S))
            os.kill(running.process.pid, signal.SIGKILL)
            _, alive = await asyncio.to_thread(psutil.wait_procs, started, 20)
            assert alive == [], "what it had started has ended with it"
            with contextlib.suppress(ConnectionError):
                await call
    assert set(sizes(tmp_path)) <= {SIZE}, f"seed {seed}"
    async with watchdog(fprocess=command, mode=mode) as running:
        assert str(SIZE) in (await request(running.port, body=b"x" * SIZE)).text.split()


async def test_the_input_is_read_from_its_beginning_however_it_is_opened() -> None:
    for command in ("cat", "cat /dev/stdin", python("import sys; sys.stdout.write(sys.stdin.read())")):
        for body in (b"", b"x", os.urandom(5).hex().encode() * 100_000):
            async with watchdog(fprocess=command) as running:
                assert (await request(running.port, body=body)).body == body, command


async def test_a_body_is_held_once_while_its_command_runs() -> None:
    """What is larger than memory permits must be known: the input counts, and nothing is kept besides."""
    size = 60_000_000
    async with watchdog(fprocess="sh -c 'echo begun >&2; sleep 60'", max_body_bytes="100000000") as running:
        before = memory(running.process.pid)
        call = asyncio.create_task(request(running.port, body=b"x" * size))
        await running.logged("begun")
        held = memory(running.process.pid) - before
        call.cancel()
        await asyncio.wait([call])
    assert held < size // 4, "the rest is the command's input"


def memory(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)
