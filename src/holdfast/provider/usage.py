"""How much memory and processor time a replica's processes use."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

import psutil


def usage(pids: Iterable[int]) -> dict[str, float]:
    """OpenFaaS's FunctionUsage of processes and their children; blocks for milliseconds.

    `cpu` is in millicores, averaged over each process's life so far.
    """
    millicores = 0.0
    memory = 0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
            lived_s = max(time.time() - process.create_time(), 0.001)
        except psutil.Error:
            continue
        for member in family:
            try:
                times = member.cpu_times()
                memory += member.memory_info().rss
            except psutil.Error:
                continue  # it has ended meanwhile
            millicores += 1000 * (times.user + times.system) / lived_s
    return {"cpu": round(millicores, 1), "totalMemoryBytes": memory}


class CpuMeter:
    """Processor time that some processes and their children spend from one question to the next."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}

    def spent_s(self, pids: Iterable[int]) -> float:
        """Seconds since the last question; blocks for milliseconds.

        What is asked about for the first time adds none: what it spent on starting is no load.
        """
        now = {pid: seconds for pid in pids if (seconds := _family_s(pid)) is not None}
        before, self._seen = self._seen, now
        return sum(max(0.0, seconds - before.get(pid, seconds)) for pid, seconds in now.items())


def _family_s(pid: int) -> float | None:
    """Of a process, its living children and those that have ended; None when it has ended itself."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return None
    total = 0.0
    for member in family:
        with suppress(psutil.Error):  # it has ended meanwhile, and its parent has its time
            # user, system and, on Linux, both again of the children that were waited for.
            total += sum(member.cpu_times()[:4])
    return total
