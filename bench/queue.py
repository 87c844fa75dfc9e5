"""A peer's queue, looked at from outside: how many calls wait in it, and how to empty it."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod

from bench.child import BenchError
from bench.meter import Parts, cpu_seconds

_LOOK_AGAIN_S = 0.02  # neither JetStream nor Redis has an event for "empty": they have to be asked


class Queue(ABC):
    """Where one peer keeps its calls. A question costs its server about 50 µs: 50 a second are not seen in a figure."""

    name: str

    @abstractmethod
    async def waiting(self) -> int:
        """Calls that are stored and not yet acknowledged."""

    @abstractmethod
    async def purge(self) -> None:
        """Forget all waiting calls."""

    @abstractmethod
    async def idle(self) -> bool:
        """Whether nothing waits, nothing is being run, and a worker would take the next call at once."""

    async def workers_stopped(self) -> None:  # noqa: B027 - most queues have nothing to do
        """The worker's processes are held still: see to it that the server hands them nothing that it then forgets."""

    async def until_idle(self, timeout_s: float) -> None:
        """Return as soon as the queue is idle. Raises BenchError after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await self.idle():
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            raise BenchError(f"{self.name} still has calls under way after {timeout_s:g} s") from None

    async def drain(self, parts: Parts, timeout_s: float) -> list[tuple[float, int]]:
        """Watch until nothing waits; (time, calls waiting) of each look.

        Raises BenchError after `timeout_s`, ProcessGone as soon as one of the parts has ended.
        """
        looks = await self.watch(parts, timeout_s)
        if looks[-1][1]:
            raise BenchError(f"{looks[-1][1]} calls still wait in {self.name} after {timeout_s:g} s")
        return looks

    async def watch(self, parts: Parts, seconds: float) -> list[tuple[float, int]]:
        """As `drain`, for so long at most: calls may still wait after it."""
        looks: list[tuple[float, int]] = []
        ends = time.perf_counter() + seconds
        while not looks or (looks[-1][1] and looks[-1][0] < ends):
            looks.append((time.perf_counter(), await self.waiting()))
            cpu_seconds(parts)
            await asyncio.sleep(_LOOK_AGAIN_S)
        return looks
