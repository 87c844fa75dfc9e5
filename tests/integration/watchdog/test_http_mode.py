import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.raw_http import request
from tests.support.watchdogs import python, watchdog

SERVER = python(
    """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/end":
            os._exit(3)
        text = f"{self.path} {self.headers['X-Own']} {len(body)} {os.getpid()}\\n".encode()
        self.send_response(201)
        self.send_header("X-From", "server")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    do_GET = do_POST
print("serving", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
)


async def test_each_request_is_relayed_to_the_one_process() -> None:
    async with watchdog(mode="http", fprocess=SERVER) as running:
        await running.logged("serving")
        answers = await asyncio.gather(
            *(request(running.port, "/a%2Fb?c=d", b"x" * 100_000, headers=[("X-Own", "é")]) for _ in range(8))
        )
        assert {answer.status for answer in answers} == {201}
        assert {answer.header("X-From") for answer in answers} == {"server"}
        assert len({answer.text.rsplit(" ", 1)[1] for answer in answers}) == 1
        assert answers[0].text.startswith("/a%2Fb?c=d é 100000 ")


async def test_the_watchdog_ends_with_the_process_so_that_it_is_started_again() -> None:
    async with watchdog(mode="http", fprocess=SERVER) as running:
        assert (await request(running.port, "/end")).status == 502
        assert await running.process.wait() == 1
        assert "ended with code 3" in await running.logged("the command ended")


async def test_more_calls_than_max_inflight_are_429_here_too() -> None:
    slow = python(
        "import asyncio, os\n"
        "async def serve(reader, writer):\n"
        "    await reader.readuntil(b'\\r\\n\\r\\n')\n"
        "    print('begun', flush=True)\n"
        "async def main():\n"
        "    async with await asyncio.start_server(serve, '127.0.0.1', int(os.environ['PORT'])) as server:\n"
        "        await server.serve_forever()\n"
        "asyncio.run(main())"
    )
    async with watchdog(mode="http", fprocess=slow, max_inflight="1", exec_timeout="2s") as running:
        held = asyncio.create_task(request(running.port, method="GET"))
        await running.logged("begun")
        assert (await request(running.port, method="GET")).status == 429
        assert (await held).status == 504
        assert (await request(running.port, method="GET")).status == 504, "its slot is free again"


@pytest.mark.parametrize(
    ("process", "code", "message"),
    [
        (python("raise SystemExit(4)"), 1, "ended with code 4 before it listened"),
        (python("import time\ntime.sleep(60)"), 1, "does not listen on http://127.0.0.1:"),
        ("no-such-command", 2, "no-such-command is not in PATH"),
    ],
)
async def test_a_process_that_does_not_serve_ends_the_watchdog_with_the_reason(
    process: str, code: int, message: str
) -> None:
    async with watchdog(ready=False, mode="http", fprocess=process, upstream_wait="1s") as running:
        assert await running.process.wait() == code
        assert message in await running.logged("function not started")


async def test_sigterm_ends_one_that_is_not_ready_at_once_and_its_process_too() -> None:
    sleeper = python("import os, time\nprint('pid', os.getpid(), flush=True)\ntime.sleep(600)")
    async with watchdog(ready=False, mode="http", fprocess=sleeper) as running:
        pid = int((await running.logged("pid ")).split()[1])
        running.terminate()
        assert await asyncio.wait_for(running.process.wait(), 20) == 0
        assert not psutil.pid_exists(pid)


async def test_the_process_of_a_killed_watchdog_is_killed_too(tmp_path: Path) -> None:
    async with watchdog(mode="http", fprocess=SERVER) as running:
        children = running.children()
        assert len(children) == 1
        os.kill(running.process.pid, signal.SIGKILL)
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, 20)
        assert alive == []
