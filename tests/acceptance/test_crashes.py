"""kill -9 of each part under load: what got a 202 is called back, and what was confirmed before is not run again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.support.receiver import Receiver, receiver
from tests.support.serving import Serving, serving

CALLS = 2000
CONNECTIONS = 32
SETTLED_S = 0.5
# A call counts as confirmed before the kill when its callback was answered this long before: the acknowledgement
# follows the receiver's answer by milliseconds, and by how many is the machine's affair.


async def put_under_load(server: Serving, callbacks: Receiver, at_half: asyncio.Event) -> set[str]:
    """Send CALLS calls, however often one has to be sent again; gives the ids that got a 202."""
    accepted: set[str] = set()
    numbers = iter(range(CALLS))

    async def send_some() -> None:
        for number in numbers:
            if number == CALLS // 2:
                at_half.set()
            while True:
                try:
                    answer = await server.call(
                        "/async-function/echo", b"%d" % number, {"X-Callback-Url": callbacks.url}
                    )
                except httpx.TransportError:
                    continue
                if answer.status_code == 202:
                    accepted.add(answer.headers["X-Call-Id"])
                    break
                assert answer.status_code == 503, answer.text
                await asyncio.sleep(0.05)

    async with asyncio.timeout(180), asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(send_some())
    return accepted


@pytest.mark.parametrize("part", ["nats-server", "worker", "gateway", "provider"])
async def test_every_accepted_call_is_called_back_though_a_part_is_killed(tmp_path: Path, part: str) -> None:
    async with receiver() as callbacks, serving(tmp_path, environ={"ack_wait": "3s"}) as server:
        at_half = asyncio.Event()
        load = asyncio.create_task(put_under_load(server, callbacks, at_half))
        await at_half.wait()
        # Some calls must be confirmed well before the kill for the second promise to be worth testing.
        await callbacks.wait_for(100)
        await asyncio.sleep(SETTLED_S)
        killed_at = time.monotonic()
        server.kill(part)
        accepted = await load
        await server.logged("started again")
        await callbacks.wait_for_ids(accepted, timeout_s=180)

        assert len(accepted) >= CALLS
        times = Counter(callback["X-Call-Id"] for callback in callbacks.callbacks)
        before = {callback["X-Call-Id"] for callback in callbacks.callbacks if callback.at < killed_at - SETTLED_S}
        assert before
        again = [call_id for call_id in before if times[call_id] > 1]
        assert not again, f"{len(again)} of {len(before)} calls confirmed before the kill ran again"
        statuses = Counter(callback["X-Function-Status"] for callback in callbacks.callbacks)
        assert statuses == {"200": len(callbacks.callbacks)}


async def test_calls_that_were_running_in_a_killed_worker_come_back_within_seconds(tmp_path: Path) -> None:
    async with receiver() as callbacks, serving(tmp_path, environ={"ack_wait": "2s"}) as server:
        call_id = await server.accept("sleep?duration=1500ms", X_Callback_Url=callbacks.url)
        await running(server, "sleep")
        server.kill("worker")
        killed_at = time.monotonic()
        (callback,) = await callbacks.wait_for(1)
        assert callback["X-Call-Id"] == call_id
        assert callback.at - killed_at < 10


async def test_a_call_survives_the_death_of_everything(tmp_path: Path) -> None:
    async with receiver() as callbacks:
        async with serving(tmp_path, environ={"ack_wait": "1s"}) as server:
            accepted = {await server.accept("sleep?duration=2s", X_Callback_Url=callbacks.url) for _ in range(10)}
            await running(server, "sleep")
            processes = server.ready["processes"]
            server.process.kill()
            # All parts die with the one that started them.
            for pid in (pid for pids in processes.values() for pid in pids):
                await gone(pid)
            await server.process.wait()
        async with serving(tmp_path, environ={"ack_wait": "1s"}):
            await callbacks.wait_for_ids(accepted)


async def test_sigterm_lets_running_calls_finish_and_hands_back_the_rest(tmp_path: Path) -> None:
    async with receiver() as callbacks:
        async with serving(tmp_path, "--max-inflight", "2", environ={"grace_period": "1s"}) as server:
            short = await server.accept("sleep?duration=700ms", X_Callback_Url=callbacks.url)
            long = await server.accept("sleep?duration=5s", X_Callback_Url=callbacks.url)
            waiting = await server.accept("sleep?duration=100ms", X_Callback_Url=callbacks.url)
            await running(server, "sleep", 2)
            assert await server.stop() == 0
            assert callbacks.confirmed() == {short: 1}
        async with serving(tmp_path):
            await callbacks.wait_for_ids({short, waiting})
            assert long not in callbacks.confirmed()
            await callbacks.wait_for_ids({long})


async def running(server: Serving, function: str, count: int = 1) -> None:
    """Return once the worker runs so many calls of a function: nothing outside tells of it, so metrics are asked."""
    wanted = (
        f'queue_worker_function_invocation_inflight{{function_name="{function}.openfaas-fn",queue_name="faas-request"}}'
    )
    async with asyncio.timeout(30):
        while True:
            metrics = (await server.client.get(server.ready["metrics"] + "/metrics")).text
            value = next((line.split()[-1] for line in metrics.splitlines() if line.startswith(wanted)), "0")
            if float(value) >= count:
                return


async def gone(pid: int) -> None:
    """Return once a process has ended."""
    async with asyncio.timeout(10):
        while True:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.01)
