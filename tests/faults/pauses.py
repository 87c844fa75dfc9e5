"""Parts that stand still for less than `ack_wait`, as on a machine that is busy, while calls are tried again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

from tests.faults.row import Plan, Row
from tests.support.scene import Scene, scene
from tests.support.traffic import Kind

RETRIED = (Kind("retried once", 1, {"X-Plan": "503,200"}),)
OPTIONS = ("--max-inflight", "32", "--workers", "2", "--durability", "os")
ENVIRON = {"ack_wait": "10s", "initial_retry_wait": "1s", "max_retry_wait": "1s"}
CONNECTIONS = 16
PACE_S = 0.1
# Between two calls of a connection: 20,000 calls take two minutes and meet many pauses.
EVERY_S = 2.0
SETTLE_S = 300.0
NATS_PAUSE_S = 0.35
WORKER_PAUSE_S = 2.5
# With a pause of a second before the next run: a worker stands still from the end of one run over the whole next one.


async def paused(plan: Plan) -> AsyncIterator[Row]:
    """nats-server stands still for 0.35 s and one of two workers for 2.5 s, again and again; every call fails once."""
    async with scene(plan.folder, *OPTIONS, environ=ENVIRON) as play:
        dice = random.Random(plan.seed)  # noqa: S311 - the same moments again from the same seed
        traffic = play.traffic(plan.seed, RETRIED)
        sending = asyncio.create_task(traffic.send(plan.calls, CONNECTIONS, pause_s=PACE_S))
        pauses = 0
        while not sending.done():
            await asyncio.wait([sending], timeout=EVERY_S * dice.random())
            await pause(play, dice)
            pauses += 1
        await sending
        yield Row("calls that fail once", await play.balance(traffic, SETTLE_S), f"{pauses} pauses")


async def pause(play: Scene, dice: random.Random) -> None:
    """One pause of nats-server, and one of a worker that begins meanwhile."""
    async with asyncio.TaskGroup() as both:
        both.create_task(play.freeze("nats-server", NATS_PAUSE_S))
        await asyncio.sleep(NATS_PAUSE_S * dice.random())
        both.create_task(play.freeze("worker", WORKER_PAUSE_S, dice.randrange(2)))
