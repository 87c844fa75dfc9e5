"""A provider as `holdfast serve` starts it, in a process of its own on a free port."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from holdfast import sockets
from holdfast.process import Process, start
from holdfast.provider import LISTEN_FD

TIMEOUT_S = 30.0


class RunningProvider:
    """A provider that serves its API. Get it from `provider()`."""

    process: Process
    client: httpx.AsyncClient

    def __init__(self, url: str, data: str) -> None:
        self.url = url
        self.data = data
        """The runtime's folder."""
        self.lines: list[str] = []
        self._changed = asyncio.Event()

    def on_line(self, _stream: str, line: str) -> None:
        self.lines.append(line)
        self._changed.set()

    async def logged(self, text: str, *, times: int = 1) -> None:
        """Wait until so many lines have this text in them."""
        async with asyncio.timeout(TIMEOUT_S):
            while sum(text in line for line in self.lines) < times:
                self._changed.clear()
                await self._changed.wait()

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path)

    async def ready(self, name: str) -> dict[str, Any]:
        """The function's status once a replica is ready."""
        answer = await self.client.get(f"/system/function/{name}?wait=30s")
        status: dict[str, Any] = answer.json()
        assert status["endpoints"], self.lines
        return status

    async def port(self, name: str) -> int:
        """The port of the function's first ready replica."""
        endpoint: str = (await self.ready(name))["endpoints"][0]
        return int(endpoint.rsplit(":", 1)[1])


@asynccontextmanager
async def provider(
    stack: str | None, folder: Path, *, cwd: Path | None = None, **environ: str
) -> AsyncIterator[RunningProvider]:
    """Start a provider with the text of a stack.yml, None for the samples."""
    path = ""
    if stack is not None:
        (folder / "stack.yml").write_text(stack)
        path = str(folder / "stack.yml")
    with sockets.listen("127.0.0.1", 0, purpose="test", option="nothing") as listening:
        environ = {"provider_data": str(folder / ".provider"), **environ}
        running = RunningProvider(sockets.url_of(listening), environ["provider_data"])
        async with (
            httpx.AsyncClient(base_url=running.url, timeout=TIMEOUT_S * 2, trust_env=False) as client,
            start(
                [sys.executable, "-m", "holdfast", "provider"],
                environ={
                    **os.environ,
                    LISTEN_FD: str(listening.fileno()),
                    "stack": path,
                    **environ,
                },
                cwd=cwd,
                on_line=running.on_line,
                pass_fds=[listening.fileno()],
                grace_s=20,
            ) as process,
        ):
            running.process = process
            running.client = client
            yield running
