"""Which calls run: the limit they have together, and what the provider is told of them.

A report is one line: `load <process id> <calls begun> <calls that run> <milliseconds of running, of all calls>`. The
numbers only grow, the running ones aside, so that a reader takes the difference of any two reports and misses none.
The provider scales by them, and ends no replica that it means to end while the last report speaks of calls that run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from holdfast.unexpected import Work, guarded

REPORT_S = 1.0
# While calls come or run; an idle watchdog says nothing and does nothing.

Tell = Callable[[bytes], None]


class Slots:
    """Counts the calls that run; a call holds its slot until it has really ended, not only until it is answered."""

    __slots__ = ("_begun", "_loop", "_ran_s", "_since", "_tell", "_timer", "most", "taken")

    def __init__(self, most: int, loop: asyncio.AbstractEventLoop, tell: Tell | None = None) -> None:
        self.most = most
        """0: no limit."""
        self.taken = 0
        self._begun = 0
        self._ran_s = 0.0
        self._since = loop.time()
        self._loop = loop
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None

    @property
    def full(self) -> bool:
        """Whether one more call is too many."""
        return 0 < self.most <= self.taken

    def take(self) -> None:
        """A call begins. HOT."""
        now = self._loop.time()
        self._ran_s += self.taken * (now - self._since)
        self._since = now
        self.taken += 1
        self._begun += 1
        if self._timer is None and self._tell is not None:
            self._timer = self._loop.call_later(REPORT_S, self._report)

    def free(self) -> None:
        """A call has ended. HOT."""
        now = self._loop.time()
        self._ran_s += self.taken * (now - self._since)
        self._since = now
        self.taken -= 1

    @guarded(Work.COUNTING)
    def _report(self) -> None:
        assert self._tell is not None  # noqa: S101 - without it there is no timer
        now = self._loop.time()
        self._ran_s += self.taken * (now - self._since)
        self._since = now
        self._timer = self._loop.call_later(REPORT_S, self._report) if self.taken else None
        self._tell(b"load %d %d %d %d\n" % (os.getpid(), self._begun, self.taken, int(self._ran_s * 1000)))


def teller(descriptor: int) -> Tell:
    """Writes lines to a pipe. One that is full or has no reader loses them: the next says more."""
    os.set_blocking(descriptor, False)

    def tell(line: bytes) -> None:
        with suppress(OSError):
            os.write(descriptor, line)

    return tell
