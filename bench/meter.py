"""What processes cost: CPU time and memory, by the part they belong to.

CPU time is read from each process's own CPU clock (clock_getcpuclockid(3)), which counts nanoseconds over all its
threads; the figures in /proc, which psutil reads, come in steps of 10 ms and would blur rows of a second or two.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping

import psutil

Parts = Mapping[str, Iterable[int]]
"""Process ids by part: gateway, worker, nats-server, function, …"""

_CPUCLOCK_SCHED = 2  # linux/posix-timers: the clock that counts scheduled time of a whole process


class ProcessGone(Exception):
    """A measured process has ended."""

    def __init__(self, part: str, pid: int) -> None:
        super().__init__(f"the {part} (process {pid}) ended during the measurement")
        self.part = part
        self.pid = pid


MACHINE = "machine"
"""Stands among the parts for everything that runs on the machine, the kernel's interrupts and stolen time included."""


def cpu_seconds(parts: Parts) -> dict[str, float]:
    """CPU seconds used so far, by part, and by the whole machine. Raises ProcessGone."""
    used = {part: sum(_cpu_seconds(part, pid) for pid in pids) for part, pids in parts.items()}
    times = psutil.cpu_times()
    used[MACHINE] = times.user + times.nice + times.system + times.irq + times.softirq + times.steal
    return used


def _cpu_seconds(part: str, pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        raise ProcessGone(part, pid) from None


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds between two readings, by part."""
    return {part: after[part] - seconds for part, seconds in before.items()}


def us_each(used: Mapping[str, float], requests: int) -> dict[str, float]:
    """CPU µs of each request, by part."""
    return {part: round(seconds / requests * 1e6, 2) for part, seconds in used.items() if part != MACHINE}


def elsewhere(used: Mapping[str, float], seconds: float) -> float:
    """The share of the machine's CPU time within `seconds` that went to others than the parts, 0 to 1."""
    others = used[MACHINE] - sum(cpu for part, cpu in used.items() if part != MACHINE)
    return max(0.0, others / (seconds * len(os.sched_getaffinity(0))))


def memory_mb(parts: Parts) -> dict[str, float]:
    """Memory by part, in MB (10⁶ bytes): a page that several processes share counts once, in equal shares.

    Resident memory would count Python and its libraries anew for each of them.
    """
    sizes = {part: [psutil.Process(pid).memory_full_info().pss for pid in pids] for part, pids in parts.items()}
    return {part: sum(each) / 1e6 for part, each in sizes.items()}
