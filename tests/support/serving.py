"""`holdfast serve` as a user runs it, in a process of its own, on free ports, in a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil

READY_TIMEOUT_S = 60.0
HOLDFAST = Path(sys.executable).parent / "holdfast"
CALLED_AS = "h, a, x, gateway, example.com"
"""Names that requests written by hand are sent under; without a password a gateway answers to few others."""


class Serving:
    """A running `holdfast serve`. Get it from `serving()`."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, client: httpx.AsyncClient) -> None:
        self.process = process
        self.folder = folder
        self.client = client
        self.banner = ""
        """What it printed first when it was ready."""
        self._log: list[str] = []
        self._more = asyncio.Condition()

    @property
    def ready(self) -> dict[str, Any]:
        """What the ready file says now: URLs and process ids."""
        content: dict[str, Any] = json.loads((self.folder / "ready.json").read_text())
        return content

    @property
    def url(self) -> str:
        return str(self.ready["gateway"])

    @property
    def log(self) -> str:
        return "".join(self._log)

    def kill(self, name: str) -> None:
        """kill -9 of every process of a part: gateway, worker, provider or nats-server."""
        for pid in self.ready["processes"][name]:
            os.kill(pid, signal.SIGKILL)

    def replicas(self) -> list[int]:
        """The watchdogs' process ids."""
        (provider,) = self.ready["processes"]["provider"]
        return [child.pid for child in psutil.Process(provider).children()]

    async def logged(self, text: str, *, times: int = 1, timeout_s: float = 30) -> None:
        """Return once the log shows a text so many times."""
        async with asyncio.timeout(timeout_s), self._more:
            await self._more.wait_for(lambda: self.log.count(text) >= times)

    async def call(
        self, path: str, body: bytes = b"", headers: dict[str, str] | None = None, method: str = "POST"
    ) -> httpx.Response:
        raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        return await self.client.request(method, self.url + path, content=body, headers=raw)

    async def raw(self, request: bytes) -> bytes:
        """Send bytes as they are; gives all that comes until the server closes."""
        host, port = self.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        return answer

    async def accept(self, function: str, body: bytes = b"", **headers: str) -> str:
        """An asynchronous call that must be accepted; gives its id. Headers as keywords, X_Callback_Url=…"""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.call(f"/async-function/{function}", body, named)
        assert answer.status_code == 202, answer.text
        return str(answer.headers["X-Call-Id"])

    async def collect_log(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            async with self._more:
                self._log.append(line.decode())
                self._more.notify_all()

    async def stop(self, timeout_s: float = 60) -> int:
        """SIGTERM; gives the exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def serving(folder: Path, *options: str, environ: dict[str, str] | None = None) -> AsyncIterator[Serving]:
    """A server that is ready; on leaving it is stopped and must exit 0, unless the test killed it."""
    process = await asyncio.create_subprocess_exec(
        HOLDFAST,
        *("serve", "--port", "0", "--metrics-port", "0", "--data", str(folder / "data")),
        *("--ready-file", str(folder / "ready.json"), "--durability", "os"),
        *options,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state"), "allowed_hosts": CALLED_AS, **(environ or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        serving_ = Serving(process, folder, client)
        log = asyncio.create_task(serving_.collect_log())
        try:
            assert process.stdout is not None
            async with asyncio.timeout(READY_TIMEOUT_S):
                first = await process.stdout.readline()
            assert b"is ready" in first, f"it did not become ready:\n{serving_.log}"
            serving_.banner = first.decode()
            yield serving_
            killed = process.returncode == -signal.SIGKILL
            assert await serving_.stop() == (-signal.SIGKILL if killed else 0), serving_.log
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await log
