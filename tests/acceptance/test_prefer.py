"""`Prefer: respond-async, wait=…` on synchronous calls: stored, and answered in time or told where to ask."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.receiver import receiver
from tests.support.serving import Serving, serving

WAIT = {"Prefer": "respond-async, wait=20"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, environ={"initial_retry_wait": "100ms", "max_retry_attempts": "3"}) as started:
        yield started


async def test_a_call_that_ends_in_time_is_answered_by_its_function_and_has_a_record(server: Serving) -> None:
    body = bytes(range(256)) * 100
    answer = await server.call("/function/echo/path?q=1", body, {**WAIT, "Content-Type": "application/x-banner"})
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["Content-Type"] == "application/x-banner"
    assert answer.headers["Preference-Applied"] == "respond-async, wait=20"
    assert {"X-Call-Id", "X-Start-Time", "X-Served-By"} <= {name.title() for name in answer.headers}
    record = (await server.call(f"/async-function/{answer.headers['X-Call-Id']}", method="GET")).json()
    assert record["status"] == "succeeded"


async def test_a_call_that_takes_longer_is_202_and_goes_on(server: Serving) -> None:
    answer = await server.call("/function/sleep?duration=2s", b"", {"Prefer": "respond-async, wait=1"})
    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["Preference-Applied"] == "respond-async, wait=1"
    ended = await server.client.get(server.url + answer.headers["Location"] + "?wait=20s")
    assert ended.json()["status"] == "succeeded"


async def test_without_a_wait_the_answer_is_202_at_once(server: Serving) -> None:
    for asked in ("respond-async", "respond-async, wait=0", "handling=lenient, respond-async, wait=soon"):
        answer = await server.call("/function/sleep?duration=500ms", b"", {"Prefer": asked})
        assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "respond-async")


async def test_other_preferences_and_methods_change_nothing(server: Serving) -> None:
    answer = await server.call("/function/echo", b"x", {"Prefer": "wait=1, return=minimal"})
    assert (answer.status_code, answer.content) == (200, b"x")
    assert "Preference-Applied" not in answer.headers
    read = await server.call("/function/env", b"", {"Prefer": "respond-async"}, method="GET")
    assert (read.status_code, "Http_Method=GET" in read.text) == (200, True)


async def test_a_failing_function_is_retried_and_its_last_answer_is_the_answer(server: Serving) -> None:
    await server.call("/function/chaos/set", json.dumps({"status": 503, "times": 1}).encode())
    repaired = await server.call("/function/chaos", b"", WAIT)
    assert repaired.status_code == 200
    broken = await server.call("/function/chaos?status=500&body=broken", b"", WAIT)
    assert (broken.status_code, broken.content) == (500, b"broken")
    empty = await server.call("/function/chaos?status=204", b"", WAIT)
    assert (empty.status_code, empty.content) == (204, b"")


async def test_what_cannot_be_accepted_is_refused_as_an_asynchronous_call_is(server: Serving) -> None:
    assert (await server.call("/function/nobody", b"", WAIT)).status_code == 404
    assert (await server.call("/function/echo", b"", {**WAIT, "X-Delay": "soon"})).status_code == 400


async def test_a_caller_that_leaves_stops_nothing(server: Serving) -> None:
    async with receiver() as callbacks:
        host, port = server.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = "POST /function/sleep?duration=300ms HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
        ours = f"Prefer: respond-async, wait=20\r\nX-Call-Id: left\r\nX-Callback-Url: {callbacks.url}\r\n\r\n"
        writer.write((head + ours).encode())
        while (await server.call("/async-function/left", method="GET")).status_code == 404:
            pass
        writer.close()
        await callbacks.wait_for_ids({"left"})


async def test_a_gateway_that_is_stopped_tells_who_waits_where_to_ask(server: Serving) -> None:
    waiting = asyncio.create_task(server.call("/function/sleep?duration=3s", b"", {**WAIT, "X-Call-Id": "stopped"}))
    while (await server.call("/async-function/stopped", method="GET")).status_code == 404:
        pass
    for pid in server.ready["processes"]["gateway"]:
        os.kill(pid, signal.SIGTERM)
    answer = await waiting
    assert (answer.status_code, answer.headers["Location"]) == (202, "/async-function/stopped")


async def test_a_cancelled_call_is_no_longer_waited_for(server: Serving) -> None:
    waiting = asyncio.create_task(server.call("/function/sleep?duration=60s", b"", {**WAIT, "X-Call-Id": "cancelled"}))
    while (await server.call("/async-function/cancelled", method="DELETE")).status_code != 202:
        pass
    answer = await waiting
    assert (answer.status_code, answer.headers["Location"]) == (202, "/async-function/cancelled")


async def test_a_key_that_stands_for_a_call_that_has_ended_gives_its_answer_again(server: Serving) -> None:
    headers = {**WAIT, "Idempotency-Key": "once"}
    first, again = [await server.call("/function/echo", b"x", headers) for _ in range(2)]
    assert (first.status_code, again.status_code, again.content) == (200, 200, b"x")
    assert first.headers["X-Call-Id"] == again.headers["X-Call-Id"]
