"""Standard input, output and error, there whatever this process was started with.

A process may be started with some of them closed: by `>&-` in a shell, by a service manager, by cron. Then the next
file or socket that is opened gets the number 0, 1 or 2, and what is printed goes into it; children would be given it
as theirs. So what is closed becomes the null device, before anything else is opened.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def open_missing() -> None:
    """Open what is closed. Call it first thing in a process."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):  # no null device: nothing can be done about it here
                # The lowest free number is given, which is this one.
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as above
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - as above
    _keep_the_rest()


def _keep_the_rest() -> None:
    """Hand nothing else that was inherited to children of this process: a function must not get a part's sockets.

    What this process opens itself no child gets unless it is told to (PEP 446).
    """
    try:
        names = os.listdir("/proc/self/fd")  # noqa: PTH208 - pathlib would be imported before anything else
    except OSError:
        return  # no /proc: children get what was handed to this process on purpose
    for descriptor in map(int, names):
        if descriptor > 2:
            with suppress(OSError):  # that of the listing itself is closed by now
                os.set_inheritable(descriptor, False)


def give_up_output() -> None:
    """Nobody takes the rest of standard output: Python, which writes once more as it ends, must not fail at that."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
