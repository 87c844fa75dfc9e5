"""What the figures were measured on."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench.child import ROOT
from bench.servers import find_redis
from holdfast.queue import embedded

LIBRARIES = (
    *("uvloop", "httptools", "nats-py", "aiohttp", "starlette", "uvicorn"),
    *("fastapi", "celery", "redis", "urllib3", "taskiq", "taskiq-nats"),
)
"""Named in the report where they are installed."""


def machine(data_folder: Path) -> dict[str, Any]:
    """Facts for the report, by their names in it."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "nats_server": _output([str(embedded.find_binary()), "--version"]).removeprefix("nats-server: "),
        "redis_server": _redis_version(),
        "libraries": dict(_versions()),
        "data_filesystem": _filesystem(data_folder),
        "fsync_us": _fsync_us(data_folder),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """The short commit, with a plus when files differ from it."""
    name = _output(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]) or "unknown"
    changed = _output(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return name + ("+" if changed else "")


def _versions() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            yield name, version(name)


def _redis_version() -> str:
    """Such as 6.2.14; empty where there is none."""
    binary = find_redis()
    found = re.search(r"v=(\S+)", _output([binary, "--version"])) if binary else None
    return found.group(1) if found else ""


def _output(argv: list[str]) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _filesystem(folder: Path) -> str:
    inside = [
        partition
        for partition in psutil.disk_partitions(all=True)
        if folder.resolve().is_relative_to(partition.mountpoint)
    ]
    return max(inside, key=lambda partition: len(partition.mountpoint)).fstype if inside else "unknown"


def _fsync_us(folder: Path) -> int:
    """The median of writing 512 bytes to the disk for good: what a commit with durability `disk` waits for."""
    path = folder / "fsync-probe"
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(100):
            started = time.perf_counter()
            file.write(bytes(512))
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    path.unlink()
    return round(median(taken) * 1e6)
