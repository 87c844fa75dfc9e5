"""kill -9 and SIGSTOP of each part while calls are at each step of their life."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import psutil

from tests.faults.row import Plan, Row
from tests.support.ledger import Fault
from tests.support.scene import Scene, scene
from tests.support.traffic import Kind, Traffic

CALLS = 24
STOPPED_S = 3.0
# Longer than the scene's ack_wait: a part that stands still so long is taken for dead.
PARTS = ("gateway", "worker", "nats-server", "provider", "function")


class Step:
    """Calls that are brought to a step of their life, and led on from there."""

    def __init__(self, play: Scene, seed: int, kind: Kind) -> None:
        self.play = play
        self.traffic: Traffic = play.traffic(seed, (kind,))
        self._runs_before = len(play.runs)
        self._told_before = len(play.callbacks.callbacks)

    async def send(self) -> None:
        await self.traffic.send(CALLS, 8)

    async def runs(self, count: int) -> None:
        """Return once so many runs have begun: the journal is a file, which has no event."""
        async with asyncio.timeout(60):
            while len(self.play.runs) - self._runs_before < count:
                await asyncio.sleep(0.02)

    async def told(self, count: int) -> None:
        await self.play.callbacks.wait_for(self._told_before + count, timeout_s=60)


async def accepting(step: Step, fault: Callable[[], Awaitable[None]]) -> None:
    sending = asyncio.create_task(step.send())
    await step.traffic.accepted(CALLS // 3)
    await fault()
    await sending


async def waiting(step: Step, fault: Callable[[], Awaitable[None]]) -> None:
    with step.play.held("worker"):
        await step.send()
        await fault()


async def running(step: Step, fault: Callable[[], Awaitable[None]]) -> None:
    await step.send()
    await step.runs(CALLS // 2)
    await fault()


async def calling_back(step: Step, fault: Callable[[], Awaitable[None]]) -> None:
    """The receiver takes the callbacks and answers nothing until the fault is over."""
    callbacks = step.play.callbacks
    callbacks.answer = 0
    try:
        await step.send()
        await step.told(CALLS // 2)
        await fault()
    finally:
        callbacks.answer = 200
        callbacks.cut()


async def callback_parked(step: Step, fault: Callable[[], Awaitable[None]]) -> None:
    callbacks = step.play.callbacks
    callbacks.answer = 503
    try:
        await step.send()
        await step.told(CALLS)
        await fault()
    finally:
        callbacks.answer = 200


async def cancelling(step: Step, fault: Callable[[], Awaitable[None]]) -> None:
    """Each call is cancelled as soon as it is accepted, while it waits or runs."""
    await accepting(step, fault)


STEPS: dict[str, tuple[Kind, Callable[[Step, Callable[[], Awaitable[None]]], Awaitable[None]]]] = {
    "being accepted": (Kind("plain", 1, {}), accepting),
    "waiting": (Kind("plain", 1, {}), waiting),
    "running": (Kind("slow", 1, {"X-Takes": "1"}), running),
    "between two runs": (Kind("retried", 1, {"X-Plan": "503,503,200"}), running),
    "waiting for their time": (Kind("delayed", 1, {"X-Delay": "1s"}), accepting),
    "called back": (Kind("plain", 1, {}), calling_back),
    "waiting for another callback": (Kind("plain", 1, {}), callback_parked),
    "being cancelled": (Kind("cancelled", 1, {"X-Takes": "1"}, cancel_after_s=0.1), cancelling),
}


async def killed(plan: Plan) -> AsyncIterator[Row]:
    """kill -9 of each part at each step."""
    async for row in _each(plan, "killed"):
        yield row


async def stopped(plan: Plan) -> AsyncIterator[Row]:
    """SIGSTOP of each part at each step, for longer than its neighbours wait."""
    async for row in _each(plan, f"stopped for {STOPPED_S:g} s"):
        yield row


async def _each(plan: Plan, how: str) -> AsyncIterator[Row]:
    async with scene(plan.folder, "--max-inflight", "16") as play:
        for number, (name, (kind, lead)) in enumerate(STEPS.items()):
            for part in PARTS:
                step = Step(play, plan.seed + number, kind)
                await lead(step, lambda part=part: _do(play, part, how))  # type: ignore[misc]
                yield Row(f"{part} {how}, calls {name}", await play.balance(step.traffic))


async def _do(play: Scene, part: str, how: str) -> None:
    if part == "function":
        await _to_function(play, how)
    elif how == "killed":
        await play.kill(part)
    else:
        await play.freeze(part, STOPPED_S)


async def _to_function(play: Scene, how: str) -> None:
    """The same with the function's one replica, a child of the provider."""
    began = time.monotonic()
    (provider,) = play.server.ready["processes"]["provider"]
    replicas = [child.pid for child in psutil.Process(provider).children()]
    for pid in replicas:
        os.kill(pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    if how != "killed":
        await asyncio.sleep(STOPPED_S)
        for pid in replicas:
            with contextlib.suppress(ProcessLookupError):  # taken for dead, and replaced
                os.kill(pid, signal.SIGCONT)
    play.faults.append(Fault(f"function {how}", began, time.monotonic()))
