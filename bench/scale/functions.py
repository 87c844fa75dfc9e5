"""Many functions: how long deploying takes, what each takes up, whether calls get dearer by their number."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil

from bench.child import ROOT, BenchError
from bench.command import say
from bench.holdfast_peer import holdfast
from bench.meter import cpu_seconds, memory_mb, spent
from bench.peer import Peer
from bench.scale import STACK
from bench.scale.api import Api, api
from bench.scale.measures import accept, call, memory, run
from bench.scale.plan import Plan, Table
from holdfast.bundle import Manifest
from holdfast.cli.packing import pack

AT_ONCE = 8
"""Deployments that are sent at a time."""
MB_EACH = 18.0
"""More than one function's process was ever seen to take."""
START_TIMEOUT_S = 1.0
"""For each function, on a busy machine of two cores."""
WAIT_S = 60
LOOKS = 10


async def measure(plan: Plan, folder: Path) -> AsyncIterator[Table]:
    """Tables of `plan.functions` copies of echo, each a process of its own."""
    available, needed = psutil.virtual_memory().available / 1e6, plan.functions * MB_EACH
    if available < needed:
        raise BenchError(f"{plan.functions} functions may need {needed:,.0f} MB and {available:,.0f} are free")
    async with holdfast("os", folder, stack=STACK) as peer, api(peer) as asked:
        one = await _speeds(plan, peer, asked, ("echo",))
        deployed, names = await _deploy(plan, peer, asked, folder)
        yield deployed
        many = await _speeds(plan, peer, asked, tuple(names))
        failures = one.pop("failures") | many.pop("failures")
        rows = [{"functions": "1 called"} | one, {"functions": f"{plan.functions:,} called at random"} | many]
        yield Table("Functions: speed", rows, failures=failures)


async def _deploy(plan: Plan, peer: Peer, asked: Api, folder: Path) -> tuple[Table, list[str]]:
    """Push echo once as a bundle, deploy it under many names, wait until all serve."""
    rest = memory(peer.parts)
    names = [f"echo-{number:05}" for number in range(plan.functions)]
    with tempfile.TemporaryDirectory(dir=folder) as builds:
        packed = pack(ROOT / "bench/functions/echo", Manifest("echo", "python3-http"), Path(builds) / "echo.tar.gz")
        await asked.ask("POST", "/system/bundles?name=echo", body=packed.path.read_bytes())
    image, before, began = str(packed.image), cpu_seconds(peer.parts), time.monotonic()
    left = iter(names)

    async def keep_deploying() -> None:
        for name in left:
            await asked.ask("POST", "/system/functions", {"service": name, "image": image})

    await asyncio.gather(*(keep_deploying() for _ in range(AT_ONCE)))
    answered_s = time.monotonic() - began
    say(f"functions: {plan.functions:,} deployed in {answered_s:.1f} s, starting …")
    for name in names:
        await _until_ready(asked, name, began + WAIT_S + plan.functions * START_TIMEOUT_S)
    ready_s = time.monotonic() - began
    used = spent(before, cpu_seconds(peer.parts))
    old = len(peer.parts["function"])
    others = {pid for part, pids in peer.parts.items() if part != "function" for pid in pids}
    started = [child.pid for child in psutil.Process(peer.parts["provider"][0]).children(recursive=True)]
    peer.parts["function"][:] = sorted(set(started) - others)
    sizes, now = memory_mb({"function": peer.parts["function"]}), memory(peer.parts)
    row = {
        "functions": plan.functions,
        "deployed after s": answered_s,
        "all ready after s": ready_s,
        "provider CPU s": used["provider"],
        "MB of each": sizes["function"] / (old + plan.functions),
        **{f"{part} before": size for part, size in rest.items() if part.startswith("provider")},
        **now,
        "list ms": await asked.ms("/system/functions", LOOKS),
        "one described ms": await asked.ms(f"/system/function/{names[0]}", LOOKS),
        "metrics ms": await asked.ms("/metrics", LOOKS, metrics=True),
    }
    say(str(row))
    return Table("Functions: deployed", [row]), names


async def _until_ready(asked: Api, name: str, deadline: float) -> None:
    while time.monotonic() < deadline:
        if (await asked.get(f"/system/function/{name}?wait=10s"))["availableReplicas"]:
            return
    raise BenchError(f"the function {name} did not become ready")


async def _speeds(plan: Plan, peer: Peer, asked: Api, functions: tuple[str, ...]) -> dict[str, Any]:
    """Accepted, called, run: at full speed."""
    called = await call(peer, plan, functions=functions)
    async with asked.paused():
        accepted = await accept(peer, plan, functions=functions)
    ran = await run(peer, plan.seconds)
    await peer.queue.drain(peer.parts, WAIT_S + plan.seconds * 30)
    row = {
        "accepted per s": accepted.per_second,
        "elsewhere": accepted.elsewhere,
        "p99 ms": accepted.p99_ms,
        "gateway µs": accepted.us["gateway"],
        "provider µs": accepted.us["provider"],
        "called per s": called.per_second,
        "function µs": called.us["function"],
        "elsewhere then": called.elsewhere,
        "p99 ms of a call": called.p99_ms,
        "gateway µs of a call": called.us["gateway"],
        "provider µs of a call": called.us["provider"],
        "run per s": ran.per_second,
        "worker µs": ran.us["worker"],
        "provider µs of a run": ran.us["provider"],
        "failures": accepted.failures | called.failures,
    }
    say(str(row))
    return row
