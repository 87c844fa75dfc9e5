"""Start the peer on Celery: redis-server, uvicorn, Celery's worker, Holdfast's watchdog."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench import servers
from bench.calls import INFLIGHT, environment
from bench.celery_redis.queue import redis_queue
from bench.peer import Durability, Peer, accept_functions
from bench.processes import BIN, running


@contextlib.asynccontextmanager
async def celery(durability: Durability, folder: Path) -> AsyncIterator[Peer]:
    """Start it with its data in `folder`."""
    started = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        server, url = await stack.enter_async_context(servers.redis_server(durability, folder))
        urls, function_pids = await stack.enter_async_context(servers.functions())
        environ = environment(url, urls)
        argv: list[str | Path] = [BIN / "celery", "--app", "bench.celery_redis.tasks", "worker"]
        # Of the pools that run 64 calls at once the best: docs/explain/performance.md says how the others did.
        argv += ["--pool", "threads", "--concurrency", str(INFLIGHT), "--loglevel", "WARNING"]
        argv += ["--without-gossip", "--without-mingle", "--without-heartbeat"]  # talk between workers: there is one
        worker = await stack.enter_async_context(running("Celery's worker", argv, environ))
        gateway, port = await stack.enter_async_context(
            servers.uvicorn("the Celery gateway", "bench.celery_redis.gateway:app", environ)
        )
        calls = await stack.enter_async_context(redis_queue(url))
        await worker.ready(accept_functions("the Celery peer", port, calls), servers.READY_S)
        yield Peer(
            name="Celery",
            durability=durability,
            port=port,
            queue=calls,
            parts={
                "gateway": [gateway.pid],
                "worker": [worker.pid, *worker.descendants()],
                "redis-server": [server.pid],
                "function": function_pids,
            },
            ready_s=time.monotonic() - started,
            synchronous=False,
        )
