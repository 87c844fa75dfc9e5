"""Counters may lag behind, and are true again within a minute of any fault. `make faults` does the same with more."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.support.metrics import accounted_for, metrics_when
from tests.support.nats import PASSWORD, USER, nats_server
from tests.support.proxy import Cut, cutting_proxy
from tests.support.replays import act_at_once
from tests.support.scene import Scene, scene
from tests.support.traffic import Kind

STOPPED_S = 8.0
CALLS = 20
LETTERS = 20
ONCE_AND_AGAIN = (Kind("fails once", 1, {"X-Plan": "422,200"}, callback=False),)
DELETE = b"$JS.API.STREAM.MSG.DELETE.HOLDFAST_dead"
BROKEN_OFF = {
    "before the claim is confirmed": Cut("back", b'{"stream":"HOLDFAST_dead"', 9),
    "before the call is sent": Cut("there", b"HPUB faas-request.call", 9),
    "before the call is confirmed": Cut("back", b'{"stream":"OF_', 9),
    "before the letter is deleted": Cut("there", DELETE, 9),
    "before it is known to be deleted": Cut("back", b"io.nats.jetstream.api.v1.stream_msg_delete_response", 9),
}


async def test_calls_that_were_refused_and_stored_all_the_same_are_counted(tmp_path: Path) -> None:
    async with scene(tmp_path, "--no-auth") as play:
        await play.server.accept("journal")  # the provider's answer is known from here on
        with play.held("nats-server"):
            calls = [asyncio.create_task(play.server.call("/async-function/journal")) for _ in range(CALLS)]
            await asyncio.sleep(STOPPED_S)  # longer than publish_timeout: the stop itself is the input
        assert {(await call).status_code for call in calls} == {503}
        await play.server.logged("call was stored without confirmation", times=CALLS)
        found = await accounted_for(play.server)
        assert (found.accepted, found.total("holdfast_calls_ended_total")) == (CALLS + 1, CALLS + 1)
        assert len(play.runs) == CALLS + 1


async def test_the_sum_is_right_again_after_gateways_and_workers_were_killed_under_load(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    async with scene(tmp_path, "--gateways", "2", "--workers", "2", "--max-inflight", "16") as play:
        traffic = play.traffic(seed)
        sending = asyncio.create_task(traffic.send(600, 16))
        for number, part in enumerate(("gateway", "worker") * 3):
            await traffic.accepted(60 * (number + 1))
            await play.kill(part, number % 2)
        await sending
        assert (await play.balance(traffic)).lost == [], f"seed {seed}"
        await accounted_for(play.server)


async def test_what_a_server_left_uncounted_when_all_of_it_was_killed_is_counted_when_it_starts_again(
    tmp_path: Path,
) -> None:
    seed = secrets.randbits(32)
    async with scene(tmp_path, "--gateways", "2", "--max-inflight", "16") as play:
        traffic = play.traffic(seed)
        sending = asyncio.create_task(traffic.send(10**6, 16))
        await traffic.accepted(200)
        play.server.process.kill()
        await play.server.process.wait()
        sending.cancel()
    async with scene(tmp_path) as play:
        found = await accounted_for(play.server)
        assert found.accepted >= len(traffic.sent.accepted)


async def dead_letters(play: Scene, count: int) -> set[str]:
    """Calls that have failed, and will not when they are run again."""
    traffic = play.traffic(1, ONCE_AND_AGAIN)
    await traffic.send(count, 8)
    assert (await play.balance(traffic)).statuses == {"failed": count}
    return set(traffic.sent.accepted)


async def test_a_letter_is_replayed_once_or_dropped_however_many_ask_at_the_same_moment(tmp_path: Path) -> None:
    async with scene(tmp_path, "--no-auth", "--gateways", "2") as play:
        ids = await dead_letters(play, LETTERS)
        *replays, dropped = await act_at_once(play.server, "replay", "replay", "replay", "replay", "drop")
        replayed = [letter.split()[0] for told in replays for letter in told]
        told = Counter([*replayed, *(letter.split()[0] for letter in dropped)])
        assert set(told) == ids
        assert set(told.values()) == {1}
        found = await accounted_for(play.server)
        assert found.accepted == LETTERS + len(replayed)
        assert found.total("holdfast_dead_letters_kept") == 0
        assert Counter(run.call_id for run in play.runs) == Counter([*ids, *replayed])


async def test_a_dead_callback_is_sent_once_however_many_replay_it_at_the_same_moment(tmp_path: Path) -> None:
    async with scene(tmp_path, "--no-auth", "--gateways", "2") as play:
        play.callbacks.answer = 410
        traffic = play.traffic(1, (Kind("plain", 1, {}),))
        await traffic.send(LETTERS, 8)
        await metrics_when(play.server, lambda now: now.total("holdfast_dead_letters_kept") == LETTERS)
        play.callbacks.answer = 200
        told = await act_at_once(play.server, "replay", "replay", "replay")
        assert Counter(letter.split()[0] for ids in told for letter in ids) == Counter(traffic.sent.accepted.keys())
        await play.callbacks.wait_for_ids(set(traffic.sent.accepted))
        assert (await play.balance(traffic)).told_again == 0
        await accounted_for(play.server)
        assert len(play.runs) == LETTERS


@pytest.mark.parametrize("where", BROKEN_OFF)
async def test_a_replay_whose_gateway_is_killed_is_completed_once(tmp_path: Path, where: str) -> None:
    async with (
        nats_server() as nats,
        cutting_proxy(nats.port) as link,
        scene(tmp_path, "--no-auth", "--nats", f"nats://{USER}:{PASSWORD}@127.0.0.1:{link.port}") as play,
    ):
        (call_id,) = await dead_letters(play, 1)
        link.cut = BROKEN_OFF[where]
        replaying = asyncio.create_task(play.server.call("/system/dead-letters/replay", b'{"all": true}'))
        await link.cut_made()
        await play.kill("gateway")
        with contextlib.suppress(httpx.TransportError):
            await replaying
        await metrics_when(play.server, lambda now: now.total("holdfast_dead_letters_kept") == 0, 60)
        found = await accounted_for(play.server)
        assert (found.accepted, found.total("holdfast_calls_ended_total")) == (2, 2)
        assert await act_at_once(play.server, "replay") == [[]]
        record = (await play.server.call(f"/async-function/{call_id}", method="GET")).json()
        assert record["status"] == "succeeded"
        assert [run.call_id for run in play.runs] == [call_id, call_id]
