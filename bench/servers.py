"""What the peers are made of, started alike for each: nats-server, redis-server, uvicorn, and the functions."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from bench.child import ROOT, BenchError
from bench.peer import FUNCTIONS, Durability
from bench.processes import BIN, Running, free_port, listens, running
from holdfast.queue import embedded

READY_S = 20


@contextlib.asynccontextmanager
async def nats_server(durability: Durability, folder: Path) -> AsyncIterator[tuple[Running, str]]:
    """A nats-server with Holdfast's own configuration, and its URL."""
    port, password = free_port(), secrets.token_hex(16)
    config = embedded.write_config(folder / "nats", port, "peer", password, durability)
    async with running("nats-server", embedded.argv(embedded.find_binary(), config)) as server:
        await server.ready(embedded.wait_ready(port, timeout_s=READY_S), READY_S)
        yield server, f"nats://peer:{password}@127.0.0.1:{port}"


def find_redis() -> str | None:
    """The redis-server of the wheel, else the one on PATH; None: there is none."""
    return shutil.which("redis-server", path=os.pathsep.join((str(BIN), os.environ.get("PATH", os.defpath))))


@contextlib.asynccontextmanager
async def redis_server(durability: Durability, folder: Path) -> AsyncIterator[tuple[Running, str]]:
    """A redis-server that writes each command to its append-only file before it answers, and its URL."""
    binary = find_redis()
    if binary is None:
        raise BenchError("redis-server was not found: put one on PATH, or choose other peers with --peers")
    data = folder / "redis"
    data.mkdir()
    port = free_port()
    argv = [binary, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(data), "--appendonly", "yes"]
    # os: Redis's default, written before the answer and synced each second beside it. disk: synced before the answer.
    argv += ["--appendfsync", "always" if durability == "disk" else "everysec"]
    # No second copy of the data, and no rewriting of the file while others are measured: both cost, neither is needed.
    argv += ["--save", "", "--auto-aof-rewrite-percentage", "0"]
    async with running("redis-server", argv) as server:
        await server.ready(listens(port), READY_S)
        yield server, f"redis://127.0.0.1:{port}/0"


@contextlib.asynccontextmanager
async def functions() -> AsyncIterator[tuple[dict[str, str], list[int]]]:
    """All of bench/functions behind Holdfast's watchdog, as in bench/stack.yml: URL by name, and their processes."""
    async with contextlib.AsyncExitStack() as stack:
        urls, pids = {}, []
        for name in FUNCTIONS:
            port = free_port()
            environ = {"handler": str(ROOT / "bench" / "functions" / name), "handler_style": "http", "port": str(port)}
            watchdog = await stack.enter_async_context(
                running(f"function {name}", [BIN / "holdfast", "watchdog"], environ)
            )
            await watchdog.ready(listens(port), READY_S)
            urls[name] = f"http://127.0.0.1:{port}"
            pids += [watchdog.pid, *watchdog.descendants()]
        yield urls, pids


@contextlib.asynccontextmanager
async def uvicorn(name: str, app: str, environ: Mapping[str, str]) -> AsyncIterator[tuple[Running, int]]:
    """One uvicorn process that serves `app`, and its port. It takes uvloop and httptools where they are, as here."""
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port)]
    async with running(name, [*argv, "--no-access-log", "--log-level", "warning"], environ) as gateway:
        await gateway.ready(listens(port), READY_S)
        yield gateway, port
