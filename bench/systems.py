"""The systems that are measured, by the names of the command line: how each is started and what it needs for that."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from bench.child import BenchError
from bench.holdfast_peer import holdfast
from bench.naive.peer import naive
from bench.peer import Durability, Peer

NAMES = ("holdfast", "naive", "celery", "taskiq")

_MODULES = {
    "celery": ("celery", "fastapi", "redis", "urllib3"),
    "taskiq": ("fastapi", "taskiq", "taskiq_nats"),
}
"""What a system needs beyond the project's own environment, from requirements-peers.lock."""


def need(names: Sequence[str]) -> None:
    """Raises BenchError unless the libraries of these systems are installed."""
    missing = [name for name in names if not all(map(importlib.util.find_spec, _MODULES.get(name, ())))]
    if missing:
        others = ",".join(name for name in NAMES if name not in _MODULES)
        raise BenchError(
            f"the libraries of {' and '.join(missing)} are not installed: run `make bench`, which does it, "
            f"or measure without: --peers {others}"
        )


def start(name: str, durability: Durability, folder: Path) -> AbstractAsyncContextManager[Peer]:
    """Start a system with its data in `folder`. Its libraries must be there: see `need`."""
    match name:
        case "naive":
            return naive(durability, folder)
        case "celery":
            from bench.celery_redis.peer import celery  # noqa: PLC0415 - its libraries need not be there

            return celery(durability, folder)
        case "taskiq":
            from bench.taskiq_nats.peer import taskiq  # noqa: PLC0415 - a pair with the one above

            return taskiq(durability, folder)
        case _:
            return holdfast(durability, folder)
