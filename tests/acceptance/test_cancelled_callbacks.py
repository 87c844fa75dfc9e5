"""A DELETE of a call that has ended and whose receiver was not told yet: the callback is not tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.invocation import CallId
from holdfast.queue.connection import connect
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallbackStatus
from holdfast.queue.records import Records
from holdfast.settings import NatsSettings
from tests.support.metrics import Metrics, metrics, metrics_when
from tests.support.receiver import Receiver, receiver
from tests.support.serving import Serving, serving

SOON = {"callback_initial_wait": "50ms", "callback_max_wait": "50ms"}
LATE = {"callback_initial_wait": "1h", "callback_max_wait": "1h"}


@pytest.fixture
async def callbacks() -> AsyncIterator[Receiver]:
    async with receiver() as started:
        started.answer = 503
        yield started


async def record(server: Serving, call_id: str) -> dict[str, Any]:
    answer = await server.call(f"/async-function/{call_id}?wait=30s", method="GET")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def record_when(server: Serving, call_id: str, attempts: int) -> dict[str, Any]:
    """The record once it tells of so many attempts to call back."""
    while (found := await record(server, call_id))["callback"]["attempts"] < attempts:
        pass
    return found


async def cancel(server: Serving, call_id: str) -> tuple[int, str]:
    answer = await server.call(f"/async-function/{call_id}", method="DELETE")
    return answer.status_code, answer.text


def none_is_left(found: Metrics) -> bool:
    return found.total("holdfast_callbacks_parked") == 0 and found.total("holdfast_dead_letters_kept") == 0


async def test_a_callback_that_waits_for_its_next_attempt_never_comes_not_even_after_a_restart(
    tmp_path: Path, callbacks: Receiver
) -> None:
    async with serving(tmp_path, environ=LATE) as server:
        call_id = await server.accept("echo", b"kept", X_Callback_Url=callbacks.url)
        pending = await record_when(server, call_id, 1)
        assert (pending["callback"]["status"], pending["links"]["cancel"]) == ("pending", f"/async-function/{call_id}")
        assert (await cancel(server, call_id))[0] == 202
        found = await record(server, call_id)
        assert (found["status"], found["callback"]["status"]) == ("succeeded", "cancelled")
        assert (found["callback"]["attempts"], found["callback"]["dead_letter"]) == (1, None)
        assert found["callback"]["error"].startswith("cancelled at 20")
        assert found["callback"]["error"].endswith("before that, the receiver answered 503")
        assert "cancel" not in found["links"]
        counted = await metrics(server)
        assert none_is_left(counted)
        assert counted.total("holdfast_callbacks_total", outcome="cancelled") == 1
        assert (counted.total("holdfast_calls_ended_total", status="succeeded"), counted.unaccounted) == (1, 0)
        status, text = await cancel(server, call_id)
        assert (status, "its callback is cancelled" in text) == (409, True)
    callbacks.answer = 200
    async with serving(tmp_path, environ=SOON) as server:
        assert await record(server, call_id) == found
        assert none_is_left(await metrics(server))
        assert (await server.call(f"/async-function/{call_id}/result", method="GET")).content == b"kept"
        other = await server.accept("echo", X_Callback_Url=callbacks.url)
        await callbacks.wait_for_ids({other})
    assert [callback["X-Call-Id"] for callback in callbacks.callbacks] == [call_id, other]


@pytest.mark.parametrize("most", [10, 2], ids=["that would be tried again", "that would be given up"])
async def test_an_attempt_under_way_is_the_last_one_and_leaves_nothing_behind(
    tmp_path: Path, callbacks: Receiver, most: int
) -> None:
    async with serving(tmp_path, "--no-auth", environ={**SOON, "callback_attempts": str(most)}) as server:
        call_id = await server.accept("echo", X_Callback_Url=callbacks.url)
        await callbacks.wait_for(1)
        callbacks.answers.clear()
        before = len(await callbacks.wait_for(2))
        assert (await cancel(server, call_id))[0] == 202
        assert (await record(server, call_id))["callback"]["status"] == "cancelled"
        callbacks.answers.set()
        found = await record_when(server, call_id, before)
        assert (found["status"], found["callback"]["status"]) == ("succeeded", "cancelled")
        await metrics_when(server, none_is_left)
        assert len(callbacks.callbacks) == before


async def test_a_receiver_that_confirms_an_attempt_under_way_was_told(tmp_path: Path, callbacks: Receiver) -> None:
    async with serving(tmp_path, environ=SOON) as server:
        call_id = await server.accept("echo", X_Callback_Url=callbacks.url)
        await callbacks.wait_for(1)
        callbacks.answers.clear()
        tried = len(await callbacks.wait_for(2))
        assert (await cancel(server, call_id))[0] == 202
        callbacks.answer = 200
        callbacks.answers.set()
        assert (await record_when(server, call_id, tried))["callback"]["status"] == "delivered"
        assert none_is_left(await metrics(server))


@pytest.mark.parametrize(("answer", "most"), [(503, 10), (503, 1), (200, 10)])
async def test_the_first_attempt_too_is_the_last_when_it_is_under_way(
    tmp_path: Path, callbacks: Receiver, answer: int, most: int
) -> None:
    async with serving(tmp_path, environ={**SOON, "callback_attempts": str(most)}) as server:
        callbacks.answers.clear()
        call_id = await server.accept("echo", X_Callback_Url=callbacks.url)
        await callbacks.wait_for(1)
        # It is answered once the record says that the call has ended, a second after its beginning.
        assert (await cancel(server, call_id))[0] == 202
        assert (await record(server, call_id))["callback"]["status"] == "cancelled"
        callbacks.answer = answer
        callbacks.answers.set()
        found = await record_when(server, call_id, 1)
        assert found["callback"]["status"] == ("delivered" if answer == 200 else "cancelled")
        counted = await metrics_when(server, lambda now: none_is_left(now) and now.unaccounted == 0)
        assert counted.total("holdfast_calls_ended_total", status="succeeded") == 1
        assert counted.total("holdfast_calls_run_twice_total") == 0
        assert len(callbacks.callbacks) == 1


async def test_a_cancel_that_got_no_further_than_the_record_holds(tmp_path: Path, callbacks: Receiver) -> None:
    async with serving(tmp_path, environ={"callback_initial_wait": "2s"}) as server:
        call_id = await server.accept("echo", X_Callback_Url=callbacks.url)
        message_id = (await record_when(server, call_id, 1))["id"]
        settings = NatsSettings.from_environment({"nats_url": server.ready["nats"]})
        async with connect(settings, name="test") as connection:
            amended = await Records(connection, Publisher(connection, 10)).amend(
                CallId(call_id), message_id, lambda found: found._replace(callback=CallbackStatus.CANCELLED)
            )
            assert amended is not None
        # The parked message comes up when it is time, and goes away.
        await metrics_when(server, none_is_left)
        assert (await record(server, call_id))["callback"]["status"] == "cancelled"
        assert len(callbacks.callbacks) == 1


async def test_what_was_told_or_has_nobody_to_tell_can_no_longer_be_cancelled(
    tmp_path: Path, callbacks: Receiver
) -> None:
    async with serving(tmp_path, environ={"callback_attempts": "1"}) as server:
        callbacks.answer = 200
        told = await server.accept("echo", X_Callback_Url=callbacks.url)
        await record_when(server, told, 1)
        callbacks.answer = 503
        given_up = await server.accept("echo", X_Callback_Url=callbacks.url)
        await record_when(server, given_up, 1)
        nobody = await server.accept("echo")
        await record(server, nobody)
        for call_id, words in ((told, ", and its callback is delivered"), (given_up, ", and its callback is failed")):
            status, text = await cancel(server, call_id)
            assert (status, f"it is succeeded{words}." in text) == (409, True)
        status, text = await cancel(server, nobody)
        assert (status, "it is succeeded." in text) == (409, True)


async def test_a_callback_that_two_cancel_at_once_is_counted_once(tmp_path: Path, callbacks: Receiver) -> None:
    async with serving(tmp_path, "--gateways", "2", environ=LATE) as server:
        ids = [await server.accept("echo", X_Callback_Url=callbacks.url) for _ in range(10)]
        for call_id in ids:
            await record_when(server, call_id, 1)
        for call_id in ids:
            answers = await asyncio.gather(cancel(server, call_id), cancel(server, call_id))
            assert 202 in {status for status, _ in answers} <= {202, 409}
        counted = await metrics_when(server, none_is_left)
        assert counted.total("holdfast_callbacks_total", outcome="cancelled") == len(ids)
