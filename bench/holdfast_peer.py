"""Holdfast as its users start it: `holdfast serve` with one gateway and one worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.child import ROOT
from bench.peer import Durability, Peer, call_functions
from bench.processes import BIN, Running, running, written
from bench.stream import stream

STREAM = "OF_faas-request"
READY_S = 30


@contextlib.asynccontextmanager
async def holdfast(
    durability: Durability,
    folder: Path,
    *options: str,
    stack: Path = ROOT / "bench" / "stack.yml",
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Peer]:
    """Start it with its data in `folder`. Further `options` of serve come after those that are usual here."""
    ready_file = folder / "ready.json"
    argv: list[str | Path] = [
        BIN / "holdfast",
        "serve",
        "--port",
        "0",
        "--metrics-port",
        "0",
        "--data",
        folder / "data",
    ]
    argv += ["--durability", durability, "--gateways", "1", "--workers", "1", "--max-inflight", "64", "--no-auth"]
    argv += ["--ready-file", ready_file, "--stack", stack, *options]
    started = time.monotonic()
    async with running("holdfast serve", argv, environ) as serve:
        await serve.ready(written(ready_file), READY_S)
        ready_s = time.monotonic() - started
        ready = json.loads(ready_file.read_text())
        port = urlsplit(ready["gateway"]).port or 80
        await call_functions("Holdfast", port)
        echo_port = await asyncio.to_thread(_echo_port, port)
        async with stream(ready["nats"], STREAM) as calls:
            yield Peer(
                name="Holdfast",
                durability=durability,
                port=port,
                queue=calls,
                parts=_parts(serve, ready),
                ready_s=ready_s,
                echo_port=echo_port,
                metrics_port=urlsplit(ready["metrics"]).port,
            )


def _echo_port(port: int) -> int | None:
    """Where the provider says that echo can be reached."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/system/function/echo") as answer:
        endpoint: str = json.load(answer)["endpoints"][0]
    return urlsplit(endpoint).port


def _parts(serve: Running, ready: dict[str, Any]) -> dict[str, list[int]]:
    """Every process of it, by part. Functions are whatever the provider has started for them."""
    known = {part: ready["processes"][part] for part in ("gateway", "worker", "nats-server", "provider")}
    others = set(serve.descendants()) - {pid for pids in known.values() for pid in pids}
    return {**known, "function": sorted(others), "supervisor": [serve.pid]}
