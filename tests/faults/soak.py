"""Hours of work in small: traffic at 80 % of what the machine takes, with restarts, and a look at what grows.

    python -m tests.faults.soak --minutes 10

Exit code 1 when a call is missing, a slot is not free at the end, the sum of the metrics is not exact, or a process
that was not restarted holds more memory or descriptors in the last third of the time than in the first.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.faults.__main__ import COLUMNS, line, say
from tests.faults.row import Row
from tests.support.metrics import metrics_when
from tests.support.scene import Scene, scene
from tests.support.traffic import KINDS, Kind, Traffic

SHARE = 0.8
CONNECTIONS = 32
CALIBRATED_WITH = 1500
SAMPLE_EVERY_S = 2.0
RESTARTS_EVERY_S = (20.0, 60.0)
SOME_MB = 24.0
SOME_SHARE = 0.15
# What memory may differ by: allocators keep what they had, and records are kept for a day.
SOME_DESCRIPTORS = 24
WITHIN_SLOTS_S = 30.0
WORK = (*KINDS, Kind("slow", 0.05, {"X-Takes": "0.3"}), Kind("unheard", 0.02, {"X-Plan": "500,500,200"}))


class Sample(NamedTuple):
    at: float
    memory_mb: float
    descriptors: int


class Soak:
    """One run."""

    def __init__(self, play: Scene, seed: int, minutes: float) -> None:
        self._play = play
        self._dice = random.Random(seed)  # noqa: S311 - the same restarts again from the same seed
        self._seconds = minutes * 60
        self._samples: dict[str, list[Sample]] = defaultdict(list)
        # One of each part is never restarted: it is looked at for growth.
        self._kept = {part: pids[-1] for part, pids in play.server.ready["processes"].items()}
        self.restarts = 0

    async def run(self, traffic: Traffic, per_second: float) -> None:
        """Send, restart and look until the time is over."""
        ends = time.monotonic() + self._seconds
        sending = asyncio.create_task(traffic.send(10**9, CONNECTIONS, pause_s=CONNECTIONS / per_second))
        restart_at = time.monotonic() + self._dice.uniform(*RESTARTS_EVERY_S)
        while (now := time.monotonic()) < ends:
            self._look()
            if now > restart_at:
                restart_at = now + self._dice.uniform(*RESTARTS_EVERY_S)
                part = self._dice.choice(("worker", "gateway"))
                pids = self._play.server.ready["processes"][part]
                await self._play.end(part, signal.SIGTERM, 1 - pids.index(self._kept[part]))
                self.restarts += 1
            await asyncio.sleep(SAMPLE_EVERY_S)
        traffic.no_more = True
        await sending

    def _look(self) -> None:
        for part, pid in self._kept.items():
            process = psutil.Process(pid)
            memory = process.memory_info().rss / 1e6
            self._samples[part].append(Sample(time.monotonic(), memory, process.num_fds()))

    def growth(self) -> Iterator[tuple[str, bool]]:
        """A line for each process that lived all the time, and whether it is flat."""
        for name, samples in self._samples.items():
            third = max(1, len(samples) // 3)
            first, last = samples[:third], samples[-third:]
            before, after = (statistics.median(one.memory_mb for one in part) for part in (first, last))
            open_before, open_after = (statistics.median(one.descriptors for one in part) for part in (first, last))
            stored = name.startswith("nats-server")
            flat = (stored or after <= before * (1 + SOME_SHARE) + SOME_MB) and (
                open_after <= open_before + SOME_DESCRIPTORS
            )
            yield f"| {name} | {before:.0f} | {after:.0f} | {open_before:.0f} | {open_after:.0f} |", flat


async def capacity(play: Scene, seed: int) -> float:
    """Calls of all kinds that are accepted and ended in a second, going all out."""
    traffic = play.traffic(seed, WORK)
    began = time.monotonic()
    await traffic.send(CALIBRATED_WITH, CONNECTIONS)
    await play.balance(traffic)
    return CALIBRATED_WITH / (time.monotonic() - began)


async def soak(minutes: float, seed: int, folder: Path) -> bool:
    """Whether all was well; prints what there was."""
    async with scene(folder, "--workers", "2", "--gateways", "2", "--max-inflight", "32") as play:
        per_second = SHARE * await capacity(play, seed)
        say(f"seed {seed}, {minutes:g} minutes at {per_second:.0f} calls/s")
        traffic = play.traffic(seed + 1, WORK)
        run = Soak(play, seed, minutes)
        await run.run(traffic, per_second)
        drawn = await play.balance(traffic, timeout_s=300)
        row = Row(f"{minutes:g} minutes", drawn, f"{run.restarts} restarts")
        say(f"\n| what | {' | '.join(COLUMNS)} | |\n|---|{'---:|' * len(COLUMNS)}---|\n{line(row)}\n")
        say("| process | MB, first third | MB, last third | descriptors, first | last |\n|---|---:|---:|---:|---:|")
        flat = True
        for text, is_flat in run.growth():
            say(text + ("" if is_flat else " GROWS"))
            flat = flat and is_flat
        found = await metrics_when(
            play.server,
            lambda now: (
                now.total("holdfast_calls_in_queue") == 0
                and now.total("queue_worker_function_invocation_inflight") == 0
            ),
            WITHIN_SLOTS_S,
        )
        say(f"\nby the metrics {found.accepted:.0f} accepted, {found.unaccounted:+.0f} unaccounted, no slot taken")
        if not row.good:
            say(str(drawn))
        return row.good and flat and found.unaccounted == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-soak-", ignore_cleanup_errors=True) as folder:
        good = asyncio.run(soak(options.minutes, options.seed, Path(folder)))
    say("all is well" if good else "NOT GOOD")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
