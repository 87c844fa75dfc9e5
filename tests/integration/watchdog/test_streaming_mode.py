import asyncio
import contextlib
from pathlib import Path

import psutil
import pytest

from tests.support.raw_http import request
from tests.support.watchdogs import python, watchdog


async def open_call(port: int, body: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return reader, writer


async def test_the_answer_comes_while_the_command_still_writes(tmp_path: Path) -> None:
    go = tmp_path / "go"
    process = python(
        "import os, sys, time\nprint('first', flush=True)\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\nprint('second')"
    )
    async with watchdog(mode="streaming", fprocess=process, content_type="text/plain") as running:
        reader, writer = await open_call(running.port)
        head = await asyncio.wait_for(reader.readuntil(b"first\n"), 30)
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n")
        go.touch()
        assert (await asyncio.wait_for(reader.read(), 30)).endswith(b"7\r\nsecond\n\r\n0\r\n\r\n")
        writer.close()


async def test_body_and_environment_are_as_in_the_other_mode() -> None:
    async with watchdog(mode="streaming", fprocess="sh -c 'echo $Http_Query; cat'") as running:
        answer = await request(running.port, "/?a=b", b"body")
        assert answer.status == 200
        chunks = [line for line in answer.body.split(b"\r\n") if line.startswith((b"a", b"body"))]
        assert b"".join(chunks) == b"a=b\nbody"


async def test_a_command_that_fails_before_its_first_byte_is_a_500() -> None:
    async with watchdog(mode="streaming", fprocess="sh -c 'echo no >&2; exit 3'") as running:
        answer = await request(running.port)
        assert (answer.status, answer.text) == (500, "no\n")


async def test_a_command_that_fails_midway_breaks_its_answer_off() -> None:
    async with watchdog(mode="streaming", fprocess="sh -c 'echo half; sleep 0.1; exit 3'") as running:
        answer = await request(running.port)
        assert answer.status == 200
        assert b"half" in answer.body
        assert not answer.body.endswith(b"0\r\n\r\n")
        await running.logged("function failed after its answer had begun")


async def test_a_command_that_takes_too_long_is_killed_and_its_answer_breaks_off() -> None:
    process = "sh -c 'echo half; sleep 600 & wait'"
    async with watchdog(mode="streaming", fprocess=process, exec_timeout="500ms") as running:
        answer = await request(running.port)
        assert not answer.body.endswith(b"0\r\n\r\n")
        await running.logged("function too slow")
        await asyncio.to_thread(psutil.wait_procs, running.children(), 20)
        assert running.children() == []


async def test_a_command_writes_no_faster_than_its_caller_reads() -> None:
    endless = python("import sys\nwhile True: sys.stdout.buffer.write(b'x' * 65536)")
    async with watchdog(mode="streaming", fprocess=endless) as running:
        reader, writer = await open_call(running.port)
        await reader.readexactly(1_000_000)
        (process,) = running.children()
        # It comes to a halt with the pipe full, and goes on when the caller does.
        async with asyncio.timeout(30):
            while process.status() != psutil.STATUS_SLEEPING:
                await asyncio.sleep(0.01)
        written = process.io_counters().write_chars
        assert written < 64_000_000
        before = psutil.Process(running.process.pid).memory_info().rss
        assert before < 200_000_000
        await reader.readexactly(20_000_000)
        writer.close()
        with contextlib.suppress(psutil.NoSuchProcess):
            await asyncio.to_thread(process.wait, 20)
        assert running.children() == []


@pytest.mark.parametrize("size", [0, 1, 300_000, 5_000_000])
async def test_a_slow_caller_gets_all_of_it_though_the_command_has_ended_long_ago(size: int) -> None:
    async with watchdog(mode="streaming", fprocess=f"head -c {size} /dev/zero") as running:
        reader, writer = await open_call(running.port)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        await asyncio.sleep(1.5)  # longer than output may linger that nobody reads
        body = await asyncio.wait_for(reader.read(), 60)
        assert body.endswith(b"0\r\n\r\n") or b"Content-Length: 0" in head
        assert body.count(b"\0") == size
        writer.close()
