"""kill -9 of one replica of several, under load: what it had under way fails or is run again, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.receiver import receiver
from tests.support.serving import Serving, serving

CALLERS = 64
# Says when a call begins and ends, where, and takes long enough for a replica to have many under way.
HANDLER = """
import os, time
file = os.open("../runs", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def handle(event, context):
    call_id = event.headers["X-Call-Id"]
    os.write(file, f"begun {call_id} {os.getpid()}\\n".encode())
    time.sleep(0.1)
    os.write(file, f"ended {call_id} {os.getpid()}\\n".encode())
    return "done"
"""


class Runs(NamedTuple):
    """What the function did: process ids by call."""

    begun: dict[str, list[int]]
    ended: dict[str, list[int]]


def runs(folder: Path) -> Runs:
    found = Runs(defaultdict(list), defaultdict(list))
    path = folder / "runs"
    for line in path.read_text().splitlines() if path.exists() else []:
        word, call_id, pid = line.split()
        (found.begun if word == "begun" else found.ended)[call_id].append(int(pid))
    return found


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    (tmp_path / "handler").mkdir()
    (tmp_path / "handler" / "handler.py").write_text(HANDLER)
    function = {
        "lang": "python3-http",
        "handler": "./handler",
        "image": "slow",
        "labels": {"com.openfaas.scale.min": "2"},
    }
    stack = {"version": 1.0, "provider": {"name": "openfaas"}, "functions": {"slow": function}}
    (tmp_path / "stack.yml").write_text(json.dumps(stack))
    async with serving(tmp_path, "--no-auth", "--stack", str(tmp_path / "stack.yml")) as started:
        await started.logged("replica ready", times=2)
        yield started


async def ended(server: Serving, number: int) -> None:
    """Return once so many calls have ended."""
    async with asyncio.timeout(60):
        while len(runs(server.folder).ended) < number:
            await asyncio.sleep(0.05)


async def kill_one_that_is_busy(server: Serving) -> int:
    """kill -9 of a replica that has calls under way while the other has too; gives its process id."""
    async with asyncio.timeout(30):
        while True:
            done = runs(server.folder)
            busy = {pid for call_id, pids in done.begun.items() if call_id not in done.ended for pid in pids}
            if len(busy) == 2:
                pid = busy.pop()
                os.kill(pid, signal.SIGKILL)
                return pid
            await asyncio.sleep(0.01)


async def test_of_synchronous_calls_only_those_under_way_in_a_killed_replica_fail(server: Serving) -> None:
    failed: dict[str, int] = {}
    done = asyncio.Event()

    async def call_on_and_on(caller: int) -> None:
        number = 0
        while not done.is_set():
            call_id = f"caller-{caller}-{number}"
            answer = await server.call("/function/slow", b"x", {"X-Call-Id": call_id})
            if answer.status_code != 200:
                failed[call_id] = answer.status_code
            number += 1

    async with asyncio.TaskGroup() as callers:
        for caller in range(CALLERS):
            callers.create_task(call_on_and_on(caller))
        await ended(server, 2 * CALLERS)  # by now the gateway's connections have been used before
        killed = await kill_one_that_is_busy(server)
        await server.logged("replica ready", times=3)
        await ended(server, len(runs(server.folder).ended) + 3 * CALLERS)
        done.set()

    ran = runs(server.folder)
    assert failed
    assert set(failed.values()) == {502}
    assert len({call_id.rsplit("-", 1)[0] for call_id in failed}) == len(failed), "a caller lost more than one call"
    for call_id in failed:
        # It was sent to the killed replica, whether that had begun it or not, and to no other.
        assert set(ran.begun.get(call_id, [killed])) == {killed}
    assert [call_id for call_id, pids in ran.begun.items() if len(pids) > 1] == [], "nothing ran twice"


async def test_asynchronous_calls_under_way_in_a_killed_replica_are_run_again(server: Serving) -> None:
    async with receiver() as callbacks:
        accepted = {await server.accept("slow", X_Callback_Url=callbacks.url) for _ in range(300)}
        killed = await kill_one_that_is_busy(server)
        await callbacks.wait_for_ids(accepted)
        assert {callback["X-Function-Status"] for callback in callbacks.callbacks} == {"200"}
        assert set(callbacks.confirmed().values()) == {1}
    ran = runs(server.folder)
    again = {call_id for call_id, pids in ran.begun.items() if len(pids) > 1}
    assert again
    assert all(ran.begun[call_id].count(killed) for call_id in again), (
        "only what the killed one had under way ran twice"
    )
