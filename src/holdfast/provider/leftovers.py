"""Processes that outlive what they belong to: found by a mark in their environment, and killed.

The kernel ends a watchdog with its provider and a forked command with its watchdog, each with its process group
(process.py), but not what has left the group. Every process of a function has inherited two variables: MARK, whose
value is this runtime's own, and HOSTNAME, the replica. What changes its environment and leaves its process group as
well is not found here; where there are control groups (cgroups.py) they find it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import structlog

MARK = "HOLDFAST_RUNTIME"
INSTANCE = "HOSTNAME"

MOST_PASSES = 5
# A process that is being stopped may just have started another, which the next look finds.

_PROC = Path("/proc")

log = structlog.get_logger()


def kill_marked(mark: str, instances: Collection[str] | None = None) -> int:
    """Kill this user's processes with a mark, of some replicas or of all; how many were there.

    All are stopped before the first is killed: none sees the end of a pipe from another, and takes it for the end of
    what it was given. Blocks for about 10 µs per process of the machine. Without a /proc like Linux's there is nothing
    it could find.
    """
    found: set[int] = set()
    for _ in range(MOST_PASSES):
        more = [pid for pid in _marked(mark, instances) if pid not in found]
        _signal(more, signal.SIGSTOP)
        found.update(more)
        if not more:
            break
    _signal(found, signal.SIGKILL)
    return len(found)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _marked(mark: str, instances: Collection[str] | None) -> Iterator[int]:
    runtime = f"{MARK}={mark}".encode()
    wanted = None if instances is None else {f"{INSTANCE}={instance}".encode() for instance in instances}
    own = os.getpid()
    with suppress(OSError):
        for entry in os.scandir(_PROC):
            if not entry.name.isdecimal() or int(entry.name) == own:
                continue
            try:
                environ = (_PROC / entry.name / "environ").read_bytes()
            except OSError:  # of another user, or gone
                continue
            if runtime in environ:
                variables = frozenset(environ.split(b"\0"))
                if runtime in variables and (wanted is None or not wanted.isdisjoint(variables)):
                    yield int(entry.name)


class Leftovers:
    """Clears away after replicas, several at a time when several end."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self._ended: set[str] = set()
        self._looking = asyncio.Lock()

    async def clear(self, instance: str) -> None:
        """Kill what a replica has left behind. Its processes must have ended, its next ones not have begun."""
        self._ended.add(instance)
        async with self._looking:
            if instance not in self._ended:
                return  # whoever looked meanwhile has looked for it as well
            instances, self._ended = frozenset(self._ended), set()
            killed = await asyncio.to_thread(kill_marked, self.mark, instances)
        if killed:
            log.info("processes left behind were killed", instances=sorted(instances)[:10], processes=killed)
