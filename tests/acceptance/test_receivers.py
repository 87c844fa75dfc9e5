"""What receivers of callbacks can do to others, with the settings that users have: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.settings import WorkerSettings
from tests.support.receiver import Receiver, receiver
from tests.support.serving import Serving, serving
from tests.support.traffic import Connection

CALLBACK_TIMEOUT_S = WorkerSettings.from_environment({}).callback_timeout_s


@pytest.fixture
async def hanging() -> AsyncIterator[Receiver]:
    async with receiver() as started:
        started.answer = 0
        yield started


@pytest.fixture
async def callbacks() -> AsyncIterator[Receiver]:
    async with receiver() as started:
        yield started


async def record(server: Serving, call_id: str) -> dict[str, Any]:
    answer = await server.call(f"/async-function/{call_id}?wait=30s", method="GET")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def record_when(server: Serving, call_id: str, shows: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The record once it shows something of the callback, of which no event tells."""
    async with asyncio.timeout(60):
        while not shows((found := await record(server, call_id))["callback"]):
            await asyncio.sleep(0.02)
    return found


async def test_a_hanging_receiver_holds_no_slot(tmp_path: Path, hanging: Receiver) -> None:
    async with serving(tmp_path, "--max-inflight", "2") as server:
        ids = [await server.accept("echo", X_Callback_Url=hanging.url) for _ in range(6)]
        other = await server.accept("figlet", b"hi")
        assert (await record(server, other))["status"] == "succeeded"
        # Three times as many as there are slots hang at once: none of them has come to its end.
        await hanging.wait_for(6, timeout_s=CALLBACK_TIMEOUT_S)
        assert {(await record(server, call_id))["callback"]["attempts"] for call_id in ids} == {0}
        hanging.cut()


async def send_all(server: Serving, calls: int, callback_url: str, target: str = "/async-function/echo") -> None:
    numbers = iter(range(calls))

    async def some() -> None:
        connection = Connection(lambda: server.url)
        for _ in numbers:
            assert (await connection.ask("POST", target, {"X-Callback-Url": callback_url}, b"x"))[0] == 202
        connection.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(16):
            tasks.create_task(some())


async def test_a_thousand_hanging_callbacks_delay_nobody_else(
    tmp_path: Path, hanging: Receiver, callbacks: Receiver
) -> None:
    async with serving(tmp_path, "--durability", "os") as server:
        hung = await server.accept("echo", X_Callback_Url=hanging.url)
        await send_all(server, 1000, hanging.url)
        await record_when(server, hung, lambda callback: callback["attempts"] == 1)
        # Of the same function, the first attempt and one that follows a failure: sooner than one that hangs takes.
        began = time.monotonic()
        callbacks.answer = 503
        await server.accept("echo", X_Callback_Url=callbacks.url)
        await callbacks.wait_for(1)
        callbacks.answer = 200
        first, again = (await callbacks.wait_for(2))[:2]
        assert first.at - began < CALLBACK_TIMEOUT_S
        assert again.at - first.at < CALLBACK_TIMEOUT_S
        hanging.cut()


async def test_a_function_with_a_limit_runs_on_while_its_receiver_hangs(tmp_path: Path, hanging: Receiver) -> None:
    stack = tmp_path / "stack.yml"
    stack.write_text(
        "version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n  limited:\n    fprocess: cat\n"
        '    annotations:\n      com.openfaas.max_inflight: "1"\n'
    )
    async with serving(tmp_path, "--stack", str(stack)) as server:
        ids = [await server.accept("limited", X_Callback_Url=hanging.url) for _ in range(20)]
        began = time.monotonic()
        assert {(await record(server, call_id))["status"] for call_id in ids} == {"succeeded"}
        assert time.monotonic() - began < CALLBACK_TIMEOUT_S
        hanging.cut()


async def test_what_hung_is_called_back_once_its_receiver_answers(tmp_path: Path, hanging: Receiver) -> None:
    async with serving(tmp_path) as server:
        ids = {await server.accept("echo", X_Callback_Url=hanging.url) for _ in range(20)}
        for call_id in ids:
            pending = await record(server, call_id)
            assert (pending["status"], pending["callback"]["status"]) == ("succeeded", "pending")
            assert pending["callback"]["next_attempt_at"] > pending["finished_at"]
        hanging.answer = 200
        hanging.cut()  # whoever hangs loses its connection, as when a receiver is started again
        await hanging.wait_for_ids(ids)
        for call_id in ids:
            told = await record_when(server, call_id, lambda callback: callback["status"] == "delivered")
            assert told["callback"]["next_attempt_at"] is None


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def odd_receiver(talk: Talk) -> AsyncIterator[tuple[str, list[float]]]:
    """A receiver that reads a request and then does as it likes; its URL, and when requests came."""
    asked: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                asked.append(time.monotonic())
                await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", asked
        server.close()


async def answers_at_length(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = b"x" * 1_200_000
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()


async def never_ends(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 204 Fine\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    await writer.drain()


async def promises_more(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 202 Fine\r\nContent-Length: 50\r\n\r\nx")
    await writer.drain()


@pytest.mark.parametrize("talk", [answers_at_length, never_ends, promises_more])
async def test_a_confirmation_counts_once_its_head_is_read(tmp_path: Path, talk: Talk) -> None:
    async with odd_receiver(talk) as (url, asked), serving(tmp_path) as server:
        for expected in (1, 2):
            call_id = await server.accept("echo", b"", X_Callback_Url=url)
            told = await record_when(server, call_id, lambda callback: callback["status"] != "pending")
            assert (told["callback"]["status"], told["callback"]["attempts"]) == ("delivered", 1)
            assert len(asked) == expected


async def test_retry_after_is_followed_up_to_the_longest_pause(tmp_path: Path) -> None:
    async def busy(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    environ = {"callback_initial_wait": "100ms", "callback_max_wait": "2s"}
    async with odd_receiver(busy) as (url, asked), serving(tmp_path, environ=environ) as server:
        call_id = await server.accept("echo", b"", X_Callback_Url=url)
        await record_when(server, call_id, lambda callback: callback["attempts"] >= 2)
        # The first pause would be a tenth of a second: the receiver's wish counts, but not for a day.
        assert 1.9 < asked[1] - asked[0] < 30


async def test_each_failed_attempt_is_one_line_in_the_log_and_lists_find_the_calls(
    tmp_path: Path, callbacks: Receiver
) -> None:
    callbacks.answer = 500
    environ = {"callback_initial_wait": "100ms", "callback_attempts": "3"}
    async with serving(tmp_path, "--no-auth", environ=environ) as server:
        failed = await server.accept("echo", X_Callback_Url=callbacks.url)
        await record_when(server, failed, lambda callback: callback["status"] == "failed")
        lines = [line for line in server.log.splitlines() if failed in line and "callback" in line]
        assert [("callback attempt failed" in line, "callback given up" in line) for line in lines] == [
            (True, False),
            (True, False),
            (False, True),
        ]
        callbacks.answer = 200
        told = await server.accept("echo", X_Callback_Url=callbacks.url)
        await record_when(server, told, lambda callback: callback["status"] == "delivered")
        callbacks.answers.clear()
        pending = await server.accept("echo", X_Callback_Url=callbacks.url)
        await record_when(server, pending, lambda callback: callback["next_attempt_at"] is not None)
        for state, expected in (("failed", failed), ("delivered", told), ("pending", pending)):
            answer = await server.call(f"/system/calls?callback={state}", method="GET")
            assert [call["id"] for call in answer.json()["calls"]] == [expected]
        refused = await server.call("/system/calls?callback=lost", method="GET")
        assert (refused.status_code, "expected none, pending" in refused.text) == (400, True)
        callbacks.answers.set()
