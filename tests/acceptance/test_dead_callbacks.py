"""Callbacks that were given up: kept as dead letters of their own kind, sent again without running the function."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.receiver import Receiver, receiver
from tests.support.serving import Serving, serving

ENVIRON = {"max_retry_attempts": "1", "callback_initial_wait": "50ms", "callback_attempts": "2"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, "--no-auth", environ=ENVIRON) as started:
        yield started


@pytest.fixture
async def callbacks() -> AsyncIterator[Receiver]:
    async with receiver() as started:
        yield started


async def dead(server: Serving, query: str = "") -> list[dict[str, Any]]:
    answer = await server.call(f"/system/dead-letters{query}", method="GET")
    assert answer.status_code == 200, answer.text
    letters: list[dict[str, Any]] = answer.json()["dead_letters"]
    return letters


async def act(server: Serving, verb: str, **wanted: Any) -> list[dict[str, Any]]:
    answer = await server.call(f"/system/dead-letters/{verb}", json.dumps(wanted).encode())
    assert answer.status_code == 200, answer.text
    acted: list[dict[str, Any]] = answer.json()["replayed" if verb == "replay" else "dropped"]
    return acted


async def told(server: Serving, call_id: str, status: str) -> dict[str, Any]:
    """The call's record once its callback has come to this."""
    async with server.client.stream("GET", f"{server.url}/async-function/{call_id}?wait=30s"):
        pass
    while True:
        record: dict[str, Any] = (await server.call(f"/async-function/{call_id}", method="GET")).json()
        if record["callback"]["status"] == status:
            return record
        assert record["callback"]["status"] == "pending", record


async def test_a_callback_that_was_given_up_is_sent_again_and_its_function_is_not_run(
    server: Serving, callbacks: Receiver
) -> None:
    callbacks.answer = 500
    call_id = await server.accept("echo", b"pay\x00load", X_Callback_Url=callbacks.url, Content_Type="x/y")
    record = await told(server, call_id, "failed")
    assert (record["status"], record["callback"]["attempts"]) == ("succeeded", 2)
    (letter,) = await dead(server)
    assert (letter["id"], letter["kind"], letter["status"], letter["runs"]) == (call_id, "callback", 200, 1)
    assert letter["callback"]["url"] == callbacks.url
    assert "500" in letter["reason"]
    shown = (await server.call(record["callback"]["dead_letter"], method="GET")).json()
    assert (shown["kind"], shown["request"], shown["answer"]["bytes"]) == ("callback", None, 8)

    callbacks.answer = 200
    assert [letter["kind"] for letter in await act(server, "replay", id=call_id)] == ["callback"]
    record = await told(server, call_id, "delivered")
    assert (record["callback"]["attempts"], record["callback"]["dead_letter"]) == (1, None)
    assert len(record["attempts"]) == 1
    assert await dead(server) == []
    *failed, delivered = callbacks.callbacks
    assert len(failed) == 2
    for one in failed:
        assert one.body == delivered.body == b"pay\x00load"
        for name in ("webhook-id", "X-Duration-Seconds", "X-Start-Time", "X-Function-Status", "Content-Type"):
            assert one[name] == delivered[name]


async def test_a_receiver_that_says_gone_is_not_tried_again_and_what_it_missed_is_kept(
    server: Serving, callbacks: Receiver
) -> None:
    callbacks.answer = 410
    call_id = await server.accept("echo", X_Callback_Url=callbacks.url)
    assert (await told(server, call_id, "failed"))["callback"]["attempts"] == 1
    assert [letter["kind"] for letter in await dead(server)] == ["callback"]
    # Still gone: a letter again, and the same one.
    await act(server, "replay", id=call_id)
    await callbacks.wait_for(2)
    await told(server, call_id, "failed")
    assert [letter["id"] for letter in await dead(server)] == [call_id]
    assert len(callbacks.callbacks) == 2


async def test_a_call_and_its_callback_that_both_failed_are_two_letters(server: Serving, callbacks: Receiver) -> None:
    callbacks.answer = 410
    await server.call("/function/chaos/set", json.dumps({"status": 500, "body": "broken"}).encode())
    call_id = await server.accept("chaos", b"x", X_Callback_Url=callbacks.url)
    await told(server, call_id, "failed")
    assert sorted(letter["kind"] for letter in await dead(server)) == ["call", "callback"]
    for kind in ("call", "callback"):
        assert [letter["kind"] for letter in await dead(server, f"?kind={kind}&function=chaos")] == [kind]
        shown = (await server.call(f"/system/dead-letters/{call_id}?kind={kind}", method="GET")).json()
        assert (shown["kind"], shown["answer"]["body"]) == (kind, "broken")
    assert (await server.call(f"/system/dead-letters/{call_id}", method="GET")).json()["kind"] == "call"

    callbacks.answer = 200
    assert len(await act(server, "replay", id=call_id, kind="callback")) == 1
    await callbacks.wait_for_ids({call_id})
    assert callbacks.callbacks[-1]["X-Function-Status"] == "500"
    assert [letter["kind"] for letter in await dead(server)] == ["call"]
    assert len(await act(server, "drop", all=True, kind="callback")) == 0
    assert len(await act(server, "drop", all=True, kind="call")) == 1
    for wrong in ("?kind=both", "?kind=*"):
        assert (await server.call(f"/system/dead-letters{wrong}", method="GET")).status_code == 400


async def test_a_receiver_that_was_down_for_long_is_told_when_it_is_back_and_the_function_ran_once(
    tmp_path: Path,
) -> None:
    environ = {"callback_initial_wait": "50ms", "callback_max_wait": "300ms"}
    async with receiver() as gone:
        url = gone.url
    async with serving(tmp_path, environ=environ) as server:
        call_id = await server.accept("echo", b"once", X_Callback_Url=url)
        attempts = 0
        while attempts < 6:
            answer = await server.call(f"/async-function/{call_id}?wait=10s", method="GET")
            attempts = answer.json()["callback"]["attempts"]
        async with receiver(int(urlsplit(url).port or 0)) as back:
            await back.wait_for_ids({call_id})
            record = await told(server, call_id, "delivered")
        assert len(record["attempts"]) == 1
        assert [callback.body for callback in back.callbacks] == [b"once"]
