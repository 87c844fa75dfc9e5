"""Gateways and workers as processes of their own, started as an operator starts them: by command and environment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator

from tests.support.serving import CALLED_AS, HOLDFAST

READY_TIMEOUT_S = 30.0


class Part:
    """One running process. `url` is what it printed of itself when it was ready."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""
        self.log = ""
        self._more = asyncio.Condition()

    async def read_log(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            async with self._more:
                self.log += line.decode()
                self._more.notify_all()

    async def logged(self, text: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return once the log shows a text."""
        async with asyncio.timeout(timeout_s), self._more:
            await self._more.wait_for(lambda: text in self.log or self.process.returncode is not None)
        assert text in self.log, self.log


@contextlib.asynccontextmanager
async def part(name: str, environ: dict[str, str], *, before: tuple[str, ...] = ()) -> AsyncIterator[Part]:
    """`holdfast NAME`, ready, its command after `before`; on leaving it is stopped."""
    process = await asyncio.create_subprocess_exec(
        *before, HOLDFAST, name, env={**os.environ, **environ}, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    running = Part(process)
    log = asyncio.create_task(running.read_log())
    try:
        await running.logged(f"{name} ready")
        found = re.search(r"url=(\S+)", running.log)
        running.url = found.group(1) if found else ""
        yield running
        with contextlib.suppress(ProcessLookupError):  # killed by the test
            process.terminate()
        async with asyncio.timeout(READY_TIMEOUT_S):
            await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await log


def gateway(nats_url: str, provider_url: str, **environ: str) -> contextlib.AbstractAsyncContextManager[Part]:
    """A gateway on free ports."""
    return part(
        "gateway",
        {
            "nats_url": nats_url,
            "functions_provider_url": provider_url,
            "gateway_port": "0",
            "gateway_metrics_port": "0",
            "callback_allow": "127.0.0.1",
            "allowed_hosts": CALLED_AS,
            **environ,
        },
    )


def worker(nats_url: str, provider_url: str, **environ: str) -> contextlib.AbstractAsyncContextManager[Part]:
    """A worker with eight slots."""
    return part(
        "worker",
        {
            "nats_url": nats_url,
            "functions_provider_url": provider_url,
            "worker_metrics_port": "0",
            "callback_allow": "127.0.0.1",
            "max_inflight": "8",
            **environ,
        },
    )
