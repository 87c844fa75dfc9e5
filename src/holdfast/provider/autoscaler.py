"""Watches one function and scales it by the rules of scaling.py.

One for each function, owned by Functions. It wakes when a replica reports calls or a call waits for one, looks once a
second while there is load or more replicas than the least, and else sleeps: until the function has been idle long
enough to go to zero, or until somebody calls it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import structlog

from holdfast.errors import DeploymentError
from holdfast.provider.reports import Reported
from holdfast.provider.scaling import CPU, QUEUE, REPORT_S, Decision, Lately, Load, Rules, decide, desired
from holdfast.unexpected import Work, forever

log = structlog.get_logger()


class Windows(NamedTuple):
    """Over which times load is judged."""

    load_s: float
    """Load is averaged over this."""
    down_s: float
    """Replicas go when fewer were desired for this long."""


class Scaled(NamedTuple):
    """What an autoscaler sees of its function and does to it."""

    name: str
    replicas: Callable[[], int]
    """How many are wanted."""
    running: Callable[[], int]
    """Calls that run, as the replicas reported last."""
    cpu_s: Callable[[], Awaitable[float]]
    """Processor time that its ready replicas have spent since this was asked before."""
    waiting: Callable[[], Awaitable[int | None]]
    """Calls that wait in the queues; None when nobody can say."""
    scale: Callable[[int, str], None]
    """Have so many replicas, for a reason. May raise DeploymentError."""


class Autoscaler:
    """Of one function, over all its versions. `run` until cancelled."""

    def __init__(self, function: Scaled, rules: Rules, windows: Windows) -> None:
        self.rules = rules
        """Replaced by a new version of the function: call `scaled` then."""
        self._function = function
        self._loop = asyncio.get_running_loop()
        self._load = Load(windows.load_s)
        self._cpu = Load(windows.load_s)
        self._lately = Lately(windows.down_s)
        self._active_at = self._loop.time()
        self._stirred = asyncio.Event()
        self._refused = ""
        self.scaled()

    def reported(self, report: Reported) -> None:
        """A replica tells of calls."""
        now = self._loop.time()
        self._load.add(now, report.begun, report.ran_s)
        self._active_at = now
        self._stirred.set()

    def called(self) -> None:
        """A call waits for a replica."""
        self._active_at = self._loop.time()
        self._stirred.set()

    def scaled(self) -> None:
        """Somebody else chose the number of replicas, or the rules: at least so many stay for a quiet window."""
        self._active_at = self._loop.time()
        self._lately.add(self._active_at, self._function.replicas())
        self._stirred.set()

    async def run(self) -> None:
        """Look, act, sleep until there is a reason to look again; for ever."""
        due = self._loop.time()

        async def step() -> None:
            nonlocal due
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due if due != math.inf else None):
                    await self._stirred.wait()
            self._stirred.clear()
            due = await self._look()
            # Reports of many replicas come one by one: they are looked at together.
            await asyncio.sleep(REPORT_S)

        await forever(Work.AUTOSCALING, step)

    async def _measure(self, kind: str) -> float | None:
        """The load of that kind; None when there is none to know."""
        if kind == QUEUE:
            return await self._function.waiting()
        if kind == CPU:
            self._cpu.add(self._loop.time(), 0, await self._function.cpu_s())
            return 1000 * self._cpu.of(kind, self._loop.time())
        return self._load.of(kind, self._loop.time()) if kind else None

    async def _look(self) -> float:
        """Decide and act; gives the loop time of the next look if nobody calls before."""
        rules = self.rules
        load = await self._measure(rules.kind)
        now, before = self._loop.time(), self._function.replicas()
        if rules is not self.rules:
            return now  # a new version came meanwhile, and this may be the load of another kind
        if self._function.running():
            self._active_at = now
        lately = self._lately.add(now, desired(rules, load)) if load is not None else 0
        decision = decide(rules, replicas=before, load=load, idle_s=now - REPORT_S - self._active_at, lately=lately)
        if decision.replicas != before:
            self._scale(decision)
        if decision.replicas == 0:
            return math.inf
        if load or (rules.kind and decision.replicas > rules.least):
            return now + REPORT_S
        # A call that began after the last report shows in the next one.
        return self._active_at + REPORT_S + rules.idle_s

    def _scale(self, decision: Decision) -> None:
        """Act. What cannot be done, its handler's folder being gone, say, is said once and tried again."""
        try:
            self._function.scale(*decision)
            self._refused = ""
        except DeploymentError as error:
            if self._refused != str(error):
                self._refused = str(error)
                log.error("cannot be scaled", function=self._function.name, error=self._refused)  # noqa: TRY400
