"""kill -9 at random moments under traffic of all kinds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

from tests.faults.row import Plan, Row
from tests.support.metrics import accounted_for
from tests.support.scene import scene

PAUSES_S = (0.3, 2.0)
CONNECTIONS = 32
SETTLE_S = 300.0


async def random_kills(plan: Plan) -> AsyncIterator[Row]:
    """Workers, gateways and nats-server are killed every few seconds while calls of all kinds come in."""
    yield await _killed_at_random(plan, "os", plan.calls)


async def random_kills_with_fsync(plan: Plan) -> AsyncIterator[Row]:
    """The same with a confirmation that means fsynced, and calls that are stored many at a time."""
    yield await _killed_at_random(plan, "disk", plan.calls // 4)


async def _killed_at_random(plan: Plan, durability: str, calls: int) -> Row:
    dice = random.Random(plan.seed)  # noqa: S311 - the same moments again from the same seed
    options = ("--max-inflight", "32", "--workers", "2", "--gateways", "2", "--durability", durability)
    async with scene(plan.folder, *options) as play:
        traffic = play.traffic(plan.seed)
        sending = asyncio.create_task(traffic.send(calls, CONNECTIONS))
        kills = 0
        while not sending.done():
            await asyncio.wait([sending], timeout=dice.uniform(*PAUSES_S))
            part = dice.choice(("worker", "worker", "nats-server", "gateway"))
            await play.kill(part, 0)
            kills += 1
        await sending
        drawn = await play.balance(traffic, SETTLE_S)
        found = await accounted_for(play.server)
        note = f"{kills} kills; by the metrics {found.accepted:.0f} accepted, all ended"
        return Row("traffic of all kinds", drawn, note)
