"""Start the naive peer: nats-server with Holdfast's own configuration, uvicorn, the worker, Holdfast's watchdog."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import nats
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from bench import servers
from bench.calls import environment
from bench.naive.words import CONSUMER, STREAM, SUBJECT
from bench.peer import Durability, Peer, call_functions
from bench.processes import running
from bench.stream import stream


@contextlib.asynccontextmanager
async def naive(durability: Durability, folder: Path) -> AsyncIterator[Peer]:
    """Start it with its data in `folder`."""
    started = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        server, url = await stack.enter_async_context(servers.nats_server(durability, folder))
        await _make_stream(url)
        urls, function_pids = await stack.enter_async_context(servers.functions())
        environ = environment(url, urls)
        worker = await stack.enter_async_context(
            running("naive worker", [sys.executable, "-m", "bench.naive.worker"], environ)
        )
        gateway, port = await stack.enter_async_context(
            servers.uvicorn("naive gateway", "bench.naive.gateway:app", environ)
        )
        ready_s = time.monotonic() - started
        await call_functions("the naive peer", port)
        yield Peer(
            name="naive peer",
            durability=durability,
            port=port,
            queue=await stack.enter_async_context(stream(url, STREAM)),
            parts={
                "gateway": [gateway.pid],
                "worker": [worker.pid],
                "nats-server": [server.pid],
                "function": function_pids,
            },
            ready_s=ready_s,
        )


async def _make_stream(url: str) -> None:
    """The same kind of stream and consumer as Holdfast's."""
    connection = await nats.connect(url)
    try:
        jetstream = connection.jetstream()
        await jetstream.add_stream(
            StreamConfig(
                name=STREAM, subjects=[SUBJECT], retention=RetentionPolicy.WORK_QUEUE, storage=StorageType.FILE
            )
        )
        await jetstream.add_consumer(
            STREAM, ConsumerConfig(durable_name=CONSUMER, ack_wait=10, max_ack_pending=10_000, filter_subject=SUBJECT)
        )
    finally:
        await connection.close()
