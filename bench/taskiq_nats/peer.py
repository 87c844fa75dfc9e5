"""Start the peer on taskiq: nats-server with Holdfast's own configuration, uvicorn, taskiq's worker, the watchdog."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench import servers
from bench.calls import INFLIGHT, environment
from bench.peer import Durability, Peer, accept_functions
from bench.processes import BIN, running
from bench.stream import stream
from bench.taskiq_nats.words import STREAM


@contextlib.asynccontextmanager
async def taskiq(durability: Durability, folder: Path) -> AsyncIterator[Peer]:
    """Start it with its data in `folder`."""
    started = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        server, url = await stack.enter_async_context(servers.nats_server(durability, folder))
        urls, function_pids = await stack.enter_async_context(servers.functions())
        environ = environment(url, urls)
        argv: list[str | Path] = [BIN / "taskiq", "worker", "bench.taskiq_nats.tasks:broker", "--workers", "1"]
        argv += ["--max-async-tasks", str(INFLIGHT), "--ack-type", "when_executed", "--log-level", "WARNING"]
        argv += ["--no-parse"]  # the gateway makes the arguments: pydantic need not check them for each call
        gateway, port = await stack.enter_async_context(
            servers.uvicorn("the taskiq gateway", "bench.taskiq_nats.gateway:app", environ)
        )
        worker = await stack.enter_async_context(running("the taskiq worker", argv, environ))
        calls = await stack.enter_async_context(stream(url, STREAM))
        await worker.ready(accept_functions("the taskiq peer", port, calls), servers.READY_S)
        yield Peer(
            name="taskiq",
            durability=durability,
            port=port,
            queue=calls,
            parts={
                "gateway": [gateway.pid],
                "worker": [worker.pid, *worker.descendants()],
                "nats-server": [server.pid],
                "function": function_pids,
            },
            ready_s=time.monotonic() - started,
            synchronous=False,
        )
