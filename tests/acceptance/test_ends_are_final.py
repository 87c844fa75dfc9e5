"""A worker that stands still, and writes when it goes on what was true before others went on without it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import nats as nats_py
import pytest

from tests.faults import pauses
from tests.support import parts
from tests.support.nats import nats_server
from tests.support.proxy import CuttingProxy, cutting_proxy
from tests.support.raw_function import RawFunction, raw_function
from tests.support.scene import scene

QUEUE = "OF_faas-request"
TIMEOUT = httpx.Timeout(60)


def answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


class Stage:
    """Two workers on one queue, of which the first can be made to stand still: what it sends to NATS is kept back."""

    def __init__(self, nats_url: str, proxy: CuttingProxy, function: RawFunction, front: parts.Part) -> None:
        self.nats_url = nats_url
        self.proxy = proxy
        self.function = function
        self.front = front
        self.client = httpx.AsyncClient(trust_env=False, timeout=TIMEOUT)

    def second_worker(self) -> contextlib.AbstractAsyncContextManager[parts.Part]:
        return parts.worker(self.nats_url, self.function.url, initial_retry_wait="1s")

    async def accept(self) -> str:
        """Where the record of a call is that was accepted."""
        accepted = await self.client.post(f"{self.front.url}/async-function/raw", content=b"x")
        return self.front.url + accepted.headers["Location"]

    async def record(self, where: str) -> dict[str, Any]:
        document: dict[str, Any] = (await self.client.get(where + "?wait=30s")).json()
        return document

    async def go_on(self) -> None:
        """Let the first worker go on, and return once it has written what it had to: then it acknowledges."""
        self.proxy.let_go()
        connection = await nats_py.connect(self.nats_url)
        async with connection, asyncio.timeout(30):
            while (await connection.jetstream().consumer_info(QUEUE, "workers")).num_ack_pending:
                await asyncio.sleep(0.05)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with nats_server() as nats, cutting_proxy(nats.port) as proxy, raw_function() as function:
        through_proxy = nats.url.replace(f":{nats.port}", f":{proxy.port}")
        async with (
            parts.gateway(nats.url, function.url) as front,
            # With one slot, which it does not leave, it is given nothing more while it stands still.
            parts.worker(through_proxy, function.url, max_inflight="1", initial_retry_wait="1s"),
        ):
            made = Stage(nats.url, proxy, function, front)
            async with made.client:
                yield made


@pytest.mark.parametrize(("code", "status"), [(200, "succeeded"), (400, "failed")])
async def test_a_late_retrying_does_not_replace_the_end_that_another_worker_wrote(
    stage: Stage, code: int, status: str
) -> None:
    stage.function.answer = lambda number: answer(503, b"busy") if number == 1 else answer(code, b"the end")
    # The retry is parked, and the record that says so is on its way while somebody else runs it.
    stage.proxy.hold = b"PUB holdfast.call."
    where = await stage.accept()
    await stage.proxy.held()
    async with stage.second_worker():
        ended = await stage.record(where)
        assert (ended["status"], len(ended["attempts"])) == (status, 2)
        await stage.go_on()
        assert await stage.record(where) == ended
        result = await stage.client.get(where + "/result")
        assert (result.status_code, result.content) == (code, b"the end")


@pytest.mark.slow
@pytest.mark.parametrize(("late", "codes"), [("failed", (400, 200)), ("succeeded", (200, 400))])
async def test_of_two_ends_the_first_stands_and_the_other_leaves_nothing_behind(
    stage: Stage, late: str, codes: tuple[int, int]
) -> None:
    stage.function.answer = lambda number: answer(codes[number - 1], b"end %d" % number)
    # Its lease runs out, as it does when a machine stands still for longer than ack_wait.
    stage.proxy.hold = b"PUB holdfast.call."
    where = await stage.accept()
    await stage.proxy.held()
    async with stage.second_worker():
        ended = await stage.record(where)
        assert ended["status"] != late
        await stage.go_on()
        assert await stage.record(where) == ended
        result = await stage.client.get(where + "/result")
        assert (result.status_code, result.content) == (codes[1], b"end 2")
        # A letter of a call that has succeeded would be run again by whoever replays it.
        async with await nats_py.connect(stage.nats_url) as connection:
            letters = (await connection.jetstream().stream_info("HOLDFAST_dead")).state.messages
        assert letters == (1 if ended["status"] == "failed" else 0)


async def test_calls_that_are_tried_again_have_one_end_though_nats_and_a_worker_stand_still(tmp_path: Path) -> None:
    dice = random.Random(9)  # noqa: S311 - the same moments each time
    async with scene(tmp_path, *pauses.OPTIONS, environ=pauses.ENVIRON) as play:
        traffic = play.traffic(9, pauses.RETRIED)
        sending = asyncio.create_task(traffic.send(400, pauses.CONNECTIONS))
        await traffic.accepted(200)
        for _ in range(2):
            await pauses.pause(play, dice)
        await sending
        drawn = await play.balance(traffic)
        assert drawn.holds, str(drawn)
        assert drawn.statuses == {"succeeded": 400}
