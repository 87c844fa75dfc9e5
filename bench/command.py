"""What the bench's commands have in common: their words on standard error, their folder, their end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.child import ROOT

RESULTS = ROOT / "bench" / "results"


def say(text: str) -> None:
    """Progress, apart from the report on standard output."""
    print(text, file=sys.stderr, flush=True)


def some_of(allowed: tuple[str, ...]) -> Callable[[str], list[str]]:
    """The type of an option that takes some of these words, comma separated; gives them in their own order."""

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(allowed):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is not among {', '.join(allowed)}")
        return [name for name in allowed if name in chosen]

    return parse


@contextlib.contextmanager
def data_folder() -> Iterator[Path]:
    """An empty folder for what the measured systems store, removed at the end.

    Beside the project, not in /tmp: a memory file system would make every fsync free.
    """
    data = ROOT / ".holdfast"
    data.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=data))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report_name(facts: dict[str, Any]) -> str:
    """What a report of today and this commit is called."""
    return f"{datetime.now(UTC):%Y-%m-%d}-{facts['commit'].rstrip('+')}"


def run_to_the_end(work: Coroutine[Any, Any, int]) -> int:
    """Run a command; gives its exit code. Ctrl-C and SIGTERM end it in order."""

    async def stoppable() -> int:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(stoppable())
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("stopped; nothing was written")
        return 130
