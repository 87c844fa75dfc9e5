"""Two hosts that reach each other and have a loopback each: network namespaces, which need root and iproute2.

Tests that use them say themselves that they are left out where these are not to be had.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from holdfast.queue import embedded
from tests.support.nats import PASSWORD, START_TIMEOUT_S, USER
from tests.support.parts import Part, part

NATS_PORT = 4222
_ANSWERS_200 = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "8")
        self.end_headers()
        self.wfile.write(b"impostor")
    do_GET = do_POST
    def log_message(self, *args):
        print("asked", flush=True)
server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Request)
print("ready", flush=True)
server.serve_forever()
"""


class Host:
    """Get two from `two_hosts()`."""

    def __init__(self, namespace: str, address: str) -> None:
        self.namespace = namespace
        self.address = address
        """By which the other one reaches it."""

    def argv(self, *argv: str) -> tuple[str, ...]:
        """The command that runs `argv` there."""
        return ("ip", "netns", "exec", self.namespace, *argv)

    async def curl(self, *arguments: str) -> str:
        """What curl prints there."""
        process = await asyncio.create_subprocess_exec(
            *self.argv("curl", "-s", "--noproxy", "*", "--max-time", "60", *arguments), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return out.decode()

    def part(self, name: str, **environ: str) -> contextlib.AbstractAsyncContextManager[Part]:
        """`holdfast NAME` there."""
        return part(name, environ, before=self.argv())

    @contextlib.asynccontextmanager
    async def nats(self, folder: Path) -> AsyncIterator[str]:
        """A nats-server there, for both hosts; gives its URL."""
        config = folder / "nats.conf"
        config.write_text(
            f"listen: {self.address}:{NATS_PORT}\nmax_payload: {embedded.MAX_PAYLOAD}\n"
            f"authorization {{ user: {USER}, password: {PASSWORD} }}\n"
            f'jetstream {{ store_dir: "{folder / "jetstream"}" }}\n'
        )
        process = await asyncio.create_subprocess_exec(
            *self.argv(*embedded.argv(embedded.find_binary(), config)), stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while b"Server is ready" not in await process.stderr.readline():
                    pass
            reading = asyncio.create_task(process.stderr.read())
            yield f"nats://{USER}:{PASSWORD}@{self.address}:{NATS_PORT}"
            reading.cancel()
        finally:
            process.kill()
            await process.wait()

    @contextlib.asynccontextmanager
    async def impostor(self, port: int) -> AsyncIterator[list[str]]:
        """A program on that port of its loopback that answers 200 to everything; gives a line for each request."""
        process = await asyncio.create_subprocess_exec(
            *self.argv(sys.executable, "-c", _ANSWERS_200, str(port)), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        asked: list[str] = []

        async def read() -> None:
            assert process.stdout is not None
            while line := await process.stdout.readline():
                asked.append(line.decode())

        try:
            assert await process.stdout.readline() == b"ready\n"
            reading = asyncio.create_task(read())
            yield asked
            reading.cancel()
        finally:
            process.kill()
            await process.wait()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """The hosts; what runs there has to end before."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("curl") is None:
        pytest.skip("network namespaces need root, iproute2 and curl")
    word = secrets.token_hex(3)
    hosts = Host(f"hfa{word}", "10.77.0.1"), Host(f"hfb{word}", "10.77.0.2")
    made = []
    try:
        try:
            for host in hosts:
                _ip("netns", "add", host.namespace)
                made.append(host)
                _ip("-n", host.namespace, "link", "set", "lo", "up")
            first, second = hosts
            _ip(
                "-n",
                first.namespace,
                "link",
                "add",
                "v",
                "type",
                "veth",
                "peer",
                "name",
                "v",
                "netns",
                second.namespace,
            )
            for host in hosts:
                _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "v")
                _ip("-n", host.namespace, "link", "set", "v", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespace can be made: {error.stderr.decode().strip()}")
        yield hosts
    finally:
        for host in made:
            _ip("netns", "delete", host.namespace)
