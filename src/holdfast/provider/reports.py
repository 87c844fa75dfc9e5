"""What watchdogs say over the pipe that their replica gave them, in lines. No I/O.

    ready <process id>
    load <process id> <calls begun> <calls that run> <milliseconds of running, of all calls>

Numbers of `load` count from the process's start, so that a reader takes differences and a lost line costs nothing. The
pipe is open to code of the function as well: what is not such a line is passed over.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST_LINE = 200
_READY = re.compile(rb"ready (\d{1,10})")
_LOAD = re.compile(rb"load (\d{1,10}) (\d{1,15}) (\d{1,9}) (\d{1,15})")


class Reported(NamedTuple):
    """What was not reported before."""

    begun: int
    """Calls."""
    ran_s: float
    """Seconds that calls ran, of all calls together."""


class Reports:
    """The reports of one replica's processes, one after the other."""

    def __init__(self) -> None:
        self.ready_pid: int | None = None
        """The process that said last that it is ready."""
        self.running = 0
        """Calls that run, as the living process said last."""
        self._rest = b""
        self._begun = 0
        self._ran_ms = 0

    def started(self) -> None:
        """A process began: it counts anew."""
        self._begun = self._ran_ms = self.running = 0

    def feed(self, data: bytes, pid: int | None) -> Reported | None:
        """Take what was read; gives the load that `pid`, the living process, had not reported, None for no report.

        The late word of a process before it is not believed.
        """
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest if len(rest) <= LONGEST_LINE else b""
        reported: Reported | None = None
        for line in lines:
            if (ready := _READY.fullmatch(line)) is not None:
                self.ready_pid = int(ready[1])
            elif (load := _LOAD.fullmatch(line)) is not None and int(load[1]) == pid:
                _, begun, self.running, ran_ms = (int(number) for number in load.groups())
                before = reported or Reported(0, 0.0)
                reported = Reported(
                    before.begun + max(0, begun - self._begun),
                    before.ran_s + max(0, ran_ms - self._ran_ms) / 1000,
                )
                self._begun, self._ran_ms = begun, ran_ms
        return reported
