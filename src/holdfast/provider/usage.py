"""How much memory and processor time a replica's processes use."""

from __future__ import annotations

import time
from collections.abc import Iterable

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
