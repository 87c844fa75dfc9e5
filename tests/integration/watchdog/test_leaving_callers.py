"""Nothing is started for a caller that has left, however its request reached the watchdog and whatever runs it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from holdfast import sockets
from holdfast.http1.client import Answer, ClientPool, Origin
from holdfast.http1.message import request_message
from holdfast.watchdog.python_function import MOST_THREADS
from tests.support.raw_http import request
from tests.support.watchdogs import Address, address, handler, python, watchdog

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="an end behind unread bytes is Linux's to tell")

NOTE = "import os\ndef note(name):\n    fd = os.open('{runs}', os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
NOTE += "    os.write(fd, name + b'\\n')\n    os.close(fd)\n"
BLOCKING = NOTE + "def handle(event, context):\n    note(event.body)\n    return 'done'\n"
ASYNC = NOTE + "async def handle(event, context):\n    note(event.body)\n    return 'done'\n"
COMMAND = "sh -c 'cat >> {runs}; echo >> {runs}; echo done'"
SERVER = (
    NOTE
    + """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        note(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"done")
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
)


def _handler(folder: Path, text: str) -> dict[str, str]:
    return {"handler": handler(folder, text.replace("{runs}", str(folder / "runs")))}


def _command(folder: Path, text: str, **environ: str) -> dict[str, str]:
    return {"fprocess": text.replace("{runs}", str(folder / "runs")), **environ}


MODES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "handler": lambda folder: _handler(folder, BLOCKING),
    "async handler": lambda folder: _handler(folder, ASYNC),
    "serializing": lambda folder: _command(folder, COMMAND),
    "streaming": lambda folder: _command(folder, COMMAND, mode="streaming"),
    "http": lambda folder: _command(folder, python(SERVER), mode="http"),
}
every_mode = pytest.mark.parametrize("mode", MODES)


def runs(folder: Path) -> list[str]:
    path = folder / "runs"
    return path.read_text().split() if path.exists() else []


def post(body: bytes) -> bytes:
    return request_message(b"POST", b"/", [(b"Host", b"a")], body)


async def send(pool: ClientPool, origin: Origin, name: bytes) -> asyncio.Task[Answer]:
    """Send a request by the Unix socket, as a worker does, and return once it lies there."""
    call = asyncio.create_task(pool.fetch(origin, post(name), timeout_s=60, max_body_bytes=1000))
    for _ in range(10):
        await asyncio.sleep(0)  # the pool writes in one of the loop's next turns
    return call


async def leave(at: Address) -> None:
    """Send requests to a watchdog that reads nothing now, and be gone before it does."""
    port = sockets.port_of(at.port)
    for number, data in enumerate([post(b"port"), post(b"first") + post(b"second"), post(b"reset")]):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(data)
            if number == 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    async with ClientPool() as pool:
        calls = [await send(pool, at.origin, b"session-%d" % number) for number in range(3)]
    await asyncio.gather(*calls, return_exceptions=True)


async def cancel_some(pool: ClientPool, at: Address) -> asyncio.Task[Answer]:
    """Calls of one session, of which one is not cancelled, as in a worker that goes on."""
    stays = await send(pool, at.origin, b"stays")
    for number in range(5):
        call = await send(pool, at.origin, b"stream-%d" % number)
        call.cancel()
        await asyncio.wait([call])
    return stays


@every_mode
async def test_one_that_stood_still_starts_nothing_for_callers_that_have_left_meanwhile(
    mode: str, tmp_path: Path
) -> None:
    with address() as at:
        async with watchdog(at=at, **MODES[mode](tmp_path)) as running, ClientPool() as pool:
            os.kill(running.process.pid, signal.SIGSTOP)
            stays = await cancel_some(pool, at)
            await leave(at)
            os.kill(running.process.pid, signal.SIGCONT)
            assert (await stays).status == 200
            assert (await request(running.port, body=b"after")).status == 200
    assert sorted(runs(tmp_path)) == ["after", "stays"]


@every_mode
async def test_one_that_is_started_starts_nothing_for_callers_that_left_the_one_before(
    mode: str, tmp_path: Path
) -> None:
    settings = MODES[mode](tmp_path)
    with address() as at:
        async with watchdog(at=at, **settings) as running:
            os.kill(running.process.pid, signal.SIGKILL)
            await running.process.wait()
        async with ClientPool() as pool:
            stays = await cancel_some(pool, at)
            await leave(at)
            async with watchdog(at=at, **settings) as running:
                assert (await stays).status == 200
                assert (await request(running.port, body=b"after")).status == 200
    assert sorted(runs(tmp_path)) == ["after", "stays"]


WAITS = r"""
import os, threading, time
go = threading.Event()
def watch():
    while not os.path.exists("go"):
        time.sleep(0.01)
    go.set()
threading.Thread(target=watch, daemon=True).start()
def handle(event, context):
    fd = os.open("runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, event.body + b"\n")
    os.close(fd)
    go.wait()
"""


async def test_a_call_that_waits_for_a_thread_is_not_run_once_its_caller_has_left(tmp_path: Path) -> None:
    with address() as at:
        async with watchdog(at=at, handler=handler(tmp_path, WAITS)) as running, ClientPool() as pool:
            origin = at.origin
            busy = [
                asyncio.create_task(pool.fetch(origin, post(b"busy"), timeout_s=60, max_body_bytes=1000))
                for _ in range(MOST_THREADS)
            ]
            async with asyncio.timeout(60):
                while len(runs(tmp_path)) < MOST_THREADS:
                    await asyncio.sleep(0.05)
            stays = await send(pool, origin, b"stays")
            leaves = await send(pool, origin, b"leaves")
            await pool.heard(origin)
            leaves.cancel()
            await asyncio.wait([leaves])
            await pool.heard(origin)
            (tmp_path / "go").touch()
            await asyncio.gather(*busy, stays)
            assert (await request(running.port, body=b"after")).status == 200
    assert sorted(set(runs(tmp_path))) == ["after", "busy", "stays"]


async def test_whoever_leaves_a_call_and_hears_so_knows_that_its_command_runs_no_more(tmp_path: Path) -> None:
    command = f"sh -c 'echo $$ >> {tmp_path / 'runs'}; exec sleep 600'"
    with address() as at:
        async with watchdog(at=at, fprocess=command), ClientPool() as pool:
            for number in range(5):
                call = await send(pool, at.origin, b"x")
                async with asyncio.timeout(20):
                    while len(runs(tmp_path)) <= number:
                        await asyncio.sleep(0.01)
                call.cancel()
                await asyncio.wait([call])
                await pool.heard(at.origin)
                pid = int(runs(tmp_path)[number])
                # Killed already; gone a moment later.
                await asyncio.wait_for(asyncio.to_thread(gone, pid), 1.0)


def gone(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(20)


async def test_an_upload_that_ends_early_starts_no_command_and_no_handler(tmp_path: Path) -> None:
    for mode in ("handler", "serializing", "streaming"):
        async with watchdog(**MODES[mode](tmp_path)) as running:
            for framing in (b"Content-Length: 700000\r\n", b"Transfer-Encoding: chunked\r\n"):
                with socket.create_connection(("127.0.0.1", running.port)) as sock:
                    piece = b"x" * 1000 if b"Length" in framing else b"3e8\r\n" + b"x" * 1000 + b"\r\n"
                    sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n" + 300 * piece)
            assert (await request(running.port, body=b"after")).status == 200
        assert runs(tmp_path) == ["after"], mode
        (tmp_path / "runs").unlink()


# Writes down how each upload ended, as its framing tells.
READS = r"""
import asyncio, os
def say(text):
    print(text, flush=True)
async def serve(reader, writer):
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"chunked" in head:
            while (size := int(await reader.readuntil(b"\r\n"), 16)):
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        else:
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        say("whole")
    except asyncio.IncompleteReadError:
        say("broken")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    writer.close()
async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"])) as server:
        await server.serve_forever()
asyncio.run(main())
"""


async def test_a_server_sees_an_upload_that_ends_early_as_broken() -> None:
    async with watchdog(mode="http", fprocess=python(READS)) as running:
        broken = running.lines.count("broken")  # the watchdog's own look whether it listens
        for number, framing in enumerate((b"Content-Length: 700000\r\n", b"Transfer-Encoding: chunked\r\n")):
            piece = b"x" * 1000 if b"Length" in framing else b"3e8\r\n" + b"x" * 1000 + b"\r\n"
            with socket.create_connection(("127.0.0.1", running.port)) as sock:
                sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n" + 300 * piece)
                await asyncio.sleep(0.3)  # so that the upload has begun; without it nothing would be sent
            async with asyncio.timeout(20):
                while running.lines.count("broken") < broken + number + 1:
                    await asyncio.sleep(0.02)
        assert "whole" not in running.lines
        assert (await request(running.port, body=b"x" * 700_000)).status == 200
        await running.logged("whole")
