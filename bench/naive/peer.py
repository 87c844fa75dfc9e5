"""Start the naive peer: nats-server with Holdfast's own configuration, uvicorn, the worker, Holdfast's watchdog."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import nats
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from bench.child import ROOT
from bench.naive.words import CONSUMER, FUNCTIONS_VARIABLE, NATS_VARIABLE, STREAM, SUBJECT
from bench.peer import FUNCTIONS, Durability, Peer, call_functions
from bench.processes import BIN, free_port, listens, running
from bench.stream import stream
from holdfast.queue import embedded

READY_S = 20


@contextlib.asynccontextmanager
async def naive(durability: Durability, folder: Path) -> AsyncIterator[Peer]:
    """Start it with its data in `folder`."""
    started = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        nats_port, password = free_port(), secrets.token_hex(16)
        config = embedded.write_config(folder / "nats", nats_port, "naive", password, durability)
        server = await stack.enter_async_context(running("nats-server", embedded.argv(embedded.find_binary(), config)))
        await server.ready(embedded.wait_ready(nats_port, timeout_s=READY_S), READY_S)
        url = f"nats://naive:{password}@127.0.0.1:{nats_port}"
        await _make_stream(url)

        ports = {name: free_port() for name in FUNCTIONS}
        functions = [await stack.enter_async_context(_function(name, port)) for name, port in ports.items()]
        environ = {
            NATS_VARIABLE: url,
            FUNCTIONS_VARIABLE: json.dumps({name: f"http://127.0.0.1:{port}" for name, port in ports.items()}),
        }
        worker = await stack.enter_async_context(
            running("naive worker", [sys.executable, "-m", "bench.naive.worker"], environ)
        )
        port = free_port()
        # uvicorn takes uvloop and httptools by itself when they are installed, as they are here.
        argv = [sys.executable, "-m", "uvicorn", "bench.naive.gateway:app", "--host", "127.0.0.1", "--port", str(port)]
        gateway = await stack.enter_async_context(
            running("naive gateway", [*argv, "--no-access-log", "--log-level", "warning"], environ)
        )
        await gateway.ready(listens(port), READY_S)
        ready_s = time.monotonic() - started
        await call_functions("the naive peer", port)
        yield Peer(
            name="naive peer",
            durability=durability,
            port=port,
            stream=await stack.enter_async_context(stream(url, STREAM)),
            parts={
                "gateway": [gateway.pid],
                "worker": [worker.pid],
                "nats-server": [server.pid],
                "function": [pid for function in functions for pid in function],
            },
            ready_s=ready_s,
        )


@contextlib.asynccontextmanager
async def _function(name: str, port: int) -> AsyncIterator[list[int]]:
    """One of bench/functions behind Holdfast's watchdog, as in bench/stack.yml; its process ids."""
    environ = {"handler": str(ROOT / "bench" / "functions" / name), "handler_style": "http", "port": str(port)}
    async with running(f"function {name}", [BIN / "holdfast", "watchdog"], environ) as watchdog:
        await watchdog.ready(listens(port), READY_S)
        yield [watchdog.pid, *watchdog.descendants()]


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
