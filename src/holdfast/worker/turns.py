"""Who may run next: so many calls at once in all, so many of each function, and whoever has to wait, in turn.

Functions take turns, not calls: of two functions of which one has a thousand calls waiting and the other one, each
begins one when a slot gets free. A sixteenth of the slots is kept for functions of which nothing runs, so that these
need not wait for an end: all other slots may have been taken a moment ago by calls that take an hour.
"""

from __future__ import annotations

import asyncio
from collections import deque

from holdfast.function import FunctionRef
from holdfast.queue.handout import Stopped
from holdfast.worker.concurrency import Concurrency

KEPT_SHARE = 16


def kept_of(slots: int) -> int:
    """How many of a worker's slots are kept for functions of which nothing runs; none of fewer than sixteen."""
    return slots // KEPT_SHARE


class Turns:
    """The slots of one worker, as numbers."""

    def __init__(self, slots: int, concurrency: Concurrency) -> None:
        self.ended = 0
        """Runs that have ended, ever."""
        self._slots = slots
        self._kept = kept_of(slots)
        self._concurrency = concurrency
        self._loop = asyncio.get_running_loop()
        self._running: dict[FunctionRef, int] = {}
        self._total = 0
        self._waiting: dict[FunctionRef, deque[asyncio.Future[bool]]] = {}
        self._stopped = False

    @property
    def total(self) -> int:
        """Calls that run."""
        return self._total

    @property
    def free(self) -> int:
        """Slots in which nothing runs, without those that are kept."""
        return max(0, self._slots - self._total - self._kept)

    def running(self, ref: FunctionRef) -> int:
        """Calls of a function that run."""
        return self._running.get(ref, 0)

    def waits(self, ref: FunctionRef) -> bool:
        """Whether a call of a function was taken from the queue and waits for its turn."""
        return ref in self._waiting

    def limited(self, ref: FunctionRef) -> bool:
        """Whether a function runs as many calls as it is known to take."""
        return self.running(ref) >= self._concurrency.limit(ref, self._loop.time())

    def heaviest(self) -> list[tuple[FunctionRef, float]]:
        """The functions that run or wait here, with their share of all calls that do, the greatest first."""
        counts = dict(self._running)
        for ref, waiting in self._waiting.items():
            counts[ref] = counts.get(ref, 0) + len(waiting)
        total = sum(counts.values())
        return sorted(((ref, count / total) for ref, count in counts.items()), key=lambda pair: -pair[1])

    def try_begin(self, ref: FunctionRef) -> bool:
        """Take a slot for a call, if it may begin at once; `end` must follow. HOT: 0.3 µs."""
        mine = self._running.get(ref, 0)
        left = self._slots - self._total
        if left <= 0 or (mine and left <= self._kept):
            return False
        if self._concurrency and mine >= self._concurrency.limit(ref, self._loop.time()):
            return False
        self._running[ref] = mine + 1
        self._total += 1
        return True

    async def begin(self, ref: FunctionRef) -> None:
        """Take a slot for a call when it is its turn; `end` must follow. Raises Stopped."""
        if not self._stopped and ref not in self._waiting and self.try_begin(ref):
            return
        if self._stopped:
            raise Stopped("the worker takes no more calls")
        turn: asyncio.Future[bool] = self._loop.create_future()
        self._waiting.setdefault(ref, deque()).append(turn)
        try:
            granted = await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(ref, turn)
            elif turn.result():
                self.end(ref)
            raise
        if not granted:
            raise Stopped("the worker takes no more calls")

    def end(self, ref: FunctionRef) -> None:
        """Give a slot back. HOT."""
        self._total -= 1
        self.ended += 1
        mine = self._running[ref] - 1
        if mine:
            self._running[ref] = mine
        else:
            del self._running[ref]
        if self._waiting:
            self.look_again()

    def look_again(self) -> None:
        """Let begin whoever may now, each function in turn."""
        begun = True
        while begun:
            begun = False
            for ref in list(self._waiting):
                waiting = self._waiting[ref]
                while waiting and waiting[0].done():  # cancelled, and its task has not run since
                    waiting.popleft()
                if not waiting:
                    del self._waiting[ref]
                elif self.try_begin(ref):
                    begun = True
                    waiting.popleft().set_result(True)
                    # Behind all others.
                    del self._waiting[ref]
                    if waiting:
                        self._waiting[ref] = waiting

    def stop(self) -> None:
        """Let nobody begin any more: who waits hears it."""
        self._stopped = True
        waiting, self._waiting = self._waiting, {}
        for turns in waiting.values():
            for turn in turns:
                if not turn.done():
                    turn.set_result(False)

    def _forget(self, ref: FunctionRef, turn: asyncio.Future[bool]) -> None:
        waiting = self._waiting.get(ref)
        if waiting is not None and turn in waiting:
            waiting.remove(turn)
            if not waiting:
                del self._waiting[ref]
