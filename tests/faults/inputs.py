"""kill -9 of whatever stands above a command while what it has started reads a large body."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator

from tests.faults.row import Plan, Row
from tests.support import readers
from tests.support.ledger import Fault
from tests.support.receiver import receiver
from tests.support.scene import ENVIRON, settled
from tests.support.serving import Serving, serving
from tests.support.traffic import Kind, Traffic

CALLS_PER_KILL = 100
# Of the plan's calls: each of these is a kill and some seconds.
AT_ONCE = 4
READING_S = 0.25
PARTS = ("watchdog", "provider", "supervisor")
LARGE = Kind("large", 1, {}, callback=False, size=readers.SIZE)


async def killed_while_read(plan: Plan) -> AsyncIterator[Row]:
    """Watchdog, provider or supervisor is killed while readers of 700,000 bytes read: they see all of it, or no end."""
    dice = random.Random(plan.seed)  # noqa: S311 - the same moments again from the same seed
    kills = max(1, plan.calls // CALLS_PER_KILL // len(PARTS) // len(readers.SCRIPTS) // AT_ONCE)
    for part in PARTS:
        for kind in readers.SCRIPTS:
            yield await killed(plan, part, kind, kills, dice)


async def killed(plan: Plan, part: str, kind: str, kills: int, dice: random.Random) -> Row:
    """One part, one kind of script, so many kills."""
    folder = plan.folder / f"{part}-{kind}"
    folder.mkdir()
    stack = folder / "stack.yml"
    command = readers.script(folder, kind)
    stack.write_text(f"version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n  reads:\n    fprocess: {command}\n")
    options = ("--no-auth", "--stack", str(stack))
    urls: list[str] = []
    faults: list[Fault] = []
    # A supervisor that is killed is started anew in its folder, and goes on with what was accepted.
    lives = [1] * kills if part == "supervisor" else [kills]
    async with receiver() as nobody:
        traffic = Traffic(lambda: urls[-1], "reads", nobody.url, seed=plan.seed, kinds=(LARGE,))
        for kills_of_life in lives:
            async with serving(folder, *options, environ=ENVIRON) as server:
                urls.append(server.url)
                for _ in range(kills_of_life):
                    faults.append(await _kill(server, traffic, part, dice.uniform(0, READING_S)))  # noqa: PERF401
        async with serving(folder, *options, environ=ENVIRON) as server:
            urls.append(server.url)
            drawn = await settled(traffic, nobody, list, faults, 180)
            results = [await _result(server, call_id) for call_id in traffic.sent.accepted]
    short = [size for size in readers.sizes(folder) if size != readers.SIZE]
    short += [int(text or 0) for text in results if text != str(readers.SIZE)]
    assert not short, f"readers or results that saw less than {readers.SIZE} bytes: {short}"
    ends = len(readers.sizes(folder))
    return Row(
        f"{part} killed, a {kind}",
        drawn,
        f"{kills} kills; {ends} readers saw an end, all of them the right one",
    )


async def _kill(server: Serving, traffic: Traffic, part: str, after_s: float) -> Fault:
    """Have some calls read, and kill at a moment of it."""
    before = readers.begun(server.folder)
    await traffic.send(AT_ONCE, AT_ONCE)
    async with asyncio.timeout(60):
        while readers.begun(server.folder) <= before:
            await asyncio.sleep(0.01)
    await asyncio.sleep(after_s)
    began = time.monotonic()
    if part == "supervisor":
        server.process.kill()
        await server.process.wait()
    else:
        for pid in server.replicas() if part == "watchdog" else server.ready["processes"]["provider"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return Fault(f"{part} killed", began, time.monotonic())


async def _result(server: Serving, call_id: str) -> str:
    return (await server.call(f"/async-function/{call_id}/result", method="GET")).text
