"""Accepted is the sum of all ends, whatever is killed meanwhile. `make faults` does the same with more calls."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
from pathlib import Path

import nats

from tests.support.metrics import accounted_for, metrics_when
from tests.support.scene import scene

CALLS = 600
CONNECTIONS = 16


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
        await accounted_for(play.server)
        quiet = play.traffic(seed + 1)
        await quiet.send(50, 8)
        assert (await play.balance(quiet)).lost == []
        await accounted_for(play.server)


async def test_a_call_that_is_cancelled_while_its_worker_stands_still_is_not_run_when_it_goes_on(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, environ={"ack_wait": "30s"}) as play:
        (worker,) = play.server.ready["processes"]["worker"]
        os.kill(worker, signal.SIGSTOP)
        try:
            call_ids = [await play.server.accept("journal") for _ in range(20)]
            for call_id in call_ids[:3]:
                assert (await play.server.call(f"/async-function/{call_id}", method="DELETE")).status_code == 202
        finally:
            os.kill(worker, signal.SIGCONT)
        for call_id in call_ids:
            document = (await play.server.call(f"/async-function/{call_id}?wait=30s", method="GET")).json()
            assert document["status"] == ("cancelled" if call_id in call_ids[:3] else "succeeded")
        assert {run.call_id for run in play.runs} == set(call_ids[3:])


async def test_a_stream_that_somebody_deletes_is_made_again_and_the_work_goes_on(tmp_path: Path) -> None:
    async with scene(tmp_path) as play:
        client = await nats.connect(play.server.ready["nats"])
        for stream in ("HOLDFAST_calls", "HOLDFAST_dead"):
            await client.jetstream().delete_stream(stream)
        await client.close()
        failing = await play.server.accept("journal", X_Plan="422")
        async with asyncio.timeout(30):
            while True:
                answer = await play.server.call(f"/async-function/{failing}?wait=30s", method="GET")
                if answer.status_code == 200 and answer.json()["finished_at"] is not None:
                    break
                # Until a worker writes a record nobody misses the stream: the gateway says that it cannot ask.
                assert answer.status_code in {200, 404, 503}
                await asyncio.sleep(0.1)
        assert answer.json()["status"] == "failed"
        found = await metrics_when(play.server, lambda now: now.total("holdfast_dead_letters_kept") == 1)
        assert found.total("holdfast_call_records") == 1
        assert [run.call_id for run in play.runs] == [failing]
