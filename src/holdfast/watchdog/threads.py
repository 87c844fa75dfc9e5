"""Threads for handlers that block, and a cheap way back to the event loop.

The library's executor makes a future and a wake-up per call, and has few threads; a handler that sleeps for a minute
must not keep sixty others waiting. What a job does and what becomes of its outcome is the caller's affair.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


class Threads(Generic[Job, Outcome]):
    """Runs `work(job)` on a thread, then `done(job, outcome)` on the loop. `work` must not raise.

    A job may wait for its thread as long as it takes: whether it is still to be done is for `work` to ask.

    A thread is added when all are busy, up to `most`; further jobs wait. Threads stay: an idle one costs some 50 KB.
    They are daemons, because Python cannot end a thread and one that hangs must not keep the process from ending.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Callable[[Job], Outcome],
        done: Callable[[Job, Outcome], None],
        most: int,
    ) -> None:
        self._loop = loop
        self._work = work
        self._done = done
        self._most = most
        self._count = 0
        self._busy = 0
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._outcomes: deque[tuple[Job, Outcome]] = deque()
        self._woken = False

    def submit(self, job: Job) -> None:
        """Called on the loop. HOT: there and back costs 20 µs when calls come one by one, less when they overlap."""
        self._busy += 1
        if self._busy > self._count and self._count < self._most:
            self._add_thread()
        self._jobs.put(job)

    def _add_thread(self) -> None:
        try:
            threading.Thread(target=self._serve, name=f"handler-{self._count + 1}", daemon=True).start()
        except RuntimeError:  # the system grants no more threads
            if self._count == 0:
                raise
            self._most = self._count
        else:
            self._count += 1

    def _serve(self) -> None:
        while True:
            job = self._jobs.get()
            self._outcomes.append((job, self._work(job)))
            # One wake-up serves all outcomes that have come until the loop looks. The order matters: the outcome is
            # there before the flag is read, and the loop clears the flag before it takes outcomes.
            if not self._woken:
                self._woken = True
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:
                    return  # the loop is closed: nobody waits any more

    def _deliver(self) -> None:
        self._woken = False
        outcomes = self._outcomes
        while outcomes:
            job, outcome = outcomes.popleft()
            self._busy -= 1
            self._done(job, outcome)
