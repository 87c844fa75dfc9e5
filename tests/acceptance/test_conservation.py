"""Accepted is the sum of all ends, whatever is killed meanwhile. `make faults` does the same with more calls."""

from __future__ import annotations

import asyncio
import random
import secrets
from pathlib import Path

from tests.support.metrics import metrics, metrics_when
from tests.support.scene import scene

CALLS = 600
CONNECTIONS = 16
MOST_IN_HAND = 2 * CONNECTIONS
# What a process had confirmed and not counted when it was killed: less than it had under way.


async def test_the_sum_holds_when_worker_and_nats_are_killed_at_random_moments(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    dice = random.Random(seed)  # noqa: S311 - the same moments again from the same seed
    async with scene(tmp_path, "--max-inflight", "16") as play:
        traffic = play.traffic(seed)
        sending = asyncio.create_task(traffic.send(CALLS, CONNECTIONS))
        for part in ("worker", "nats-server", "worker"):
            await traffic.accepted(len(traffic.sent.accepted) + dice.randint(50, 150))
            await play.kill(part)
        await sending
        drawn = await play.balance(traffic)
        assert drawn.holds, f"seed {seed}: {drawn}"
        assert drawn.accepted == CALLS

        found = await metrics_when(play.server, lambda now: now.total("holdfast_calls_in_queue") == 0)
        assert abs(found.unaccounted) <= 3 * MOST_IN_HAND, f"seed {seed}"
        before = (await metrics(play.server)).unaccounted
        quiet = play.traffic(seed + 1)
        await quiet.send(50, 8)
        assert (await play.balance(quiet)).lost == []
        # What the kills left behind stays as it is.
        await metrics_when(
            play.server, lambda now: now.total("holdfast_calls_in_queue") == 0 and now.unaccounted == before
        )
