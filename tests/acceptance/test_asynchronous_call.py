"""An asynchronous call, end to end, as a caller sees it: real nats-server, gateway, worker, runtime, receiver."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pyfiglet
import pytest

from tests.support.receiver import Receiver, receiver
from tests.support.serving import HOLDFAST, Serving, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path) as started:
        yield started


@pytest.fixture
async def callbacks() -> AsyncIterator[Receiver]:
    async with receiver() as started:
        yield started


async def test_the_documented_call_brings_the_banner_to_the_callback_url(server: Serving, callbacks: Receiver) -> None:
    before = time.time_ns()
    answer = await server.call("/async-function/figlet", b"Hi", {"X-Callback-Url": callbacks.url})
    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["X-Served-By"].startswith("holdfast/")
    assert before < int(answer.headers["X-Start-Time"]) < time.time_ns()

    (callback,) = await callbacks.wait_for(1)
    assert callback.line == "POST / HTTP/1.1"
    assert callback["X-Call-Id"] == answer.headers["X-Call-Id"]
    assert callback["X-Start-Time"] == answer.headers["X-Start-Time"]
    assert callback["X-Function-Status"] == "200"
    assert callback["X-Function-Name"] == "figlet"
    assert float(callback["X-Duration-Seconds"]) > 0
    assert callback["User-Agent"].startswith("queue-worker/")
    assert callback["Content-Type"].startswith("text/plain")
    assert callback.body.decode().rstrip() == pyfiglet.figlet_format("Hi").rstrip()


async def test_faas_invoke_with_a_callback_header_does_the_same(server: Serving, callbacks: Receiver) -> None:
    process = await asyncio.create_subprocess_exec(
        HOLDFAST.with_name("faas"),
        *("invoke", "figlet", "-g", server.url, "-H", f"X-Callback-Url: {callbacks.url}"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate(b"Hi\n")
    assert process.returncode == 0, err
    (callback,) = await callbacks.wait_for(1)
    assert callback["X-Call-Id"] in (out + err).decode()
    assert callback.body.decode().rstrip() == pyfiglet.figlet_format("Hi").rstrip()


async def test_body_target_and_headers_arrive_as_sent(server: Serving, callbacks: Receiver) -> None:
    every_byte = bytes(range(256)) * 100
    await server.accept(
        "echo.openfaas-fn", every_byte, X_Callback_Url=callbacks.url, Content_Type="application/x-everything"
    )
    (callback,) = await callbacks.wait_for(1)
    assert callback.body == every_byte
    assert callback["Content-Type"] == "application/x-everything"

    await server.raw(
        f"POST /async-function/env/a%2Fb//..?x=1&x=%26&y HTTP/1.1\r\nHost: h\r\nX-Callback-Url: {callbacks.url}\r\n"
        "X-Custom-Header: Grüße\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    )
    seen = (await callbacks.wait_for(2))[1].body.decode()
    assert "Http_Path=/a%2Fb//..\n" in seen
    assert "Http_Query=x=1&x=%26&y\n" in seen
    assert "Http_Method=POST\n" in seen
    assert "Http_X_Custom_Header=Grüße" in seen


async def test_the_callers_own_call_id_is_kept_and_reaches_function_and_receiver(
    server: Serving, callbacks: Receiver
) -> None:
    assert await server.accept("env", X_Callback_Url=callbacks.url, X_Call_Id="order-4711") == "order-4711"
    (callback,) = await callbacks.wait_for(1)
    assert callback["X-Call-Id"] == "order-4711"
    assert "Http_X_Call_Id=order-4711\n" in callback.body.decode()


async def test_two_calls_with_one_id_are_both_run(server: Serving, callbacks: Receiver) -> None:
    for body in (b"one", b"two"):
        await server.accept("echo", body, X_Callback_Url=callbacks.url, X_Call_Id="same")
    assert {callback.body for callback in await callbacks.wait_for(2)} == {b"one", b"two"}


async def test_a_callback_to_another_function_starts_a_chain(server: Serving, callbacks: Receiver) -> None:
    # The callback of the first call is itself an asynchronous call, whose own callback comes from the query here:
    # a function's headers travel with its answer, so the first function names the receiver of the second.
    await server.call(
        "/function/chaos/set", json.dumps({"body": "Hi", "headers": {"X-Callback-Url": callbacks.url}}).encode()
    )
    first = await server.accept("chaos", X_Callback_Url="/async-function/figlet")
    (callback,) = await callbacks.wait_for(1)
    assert callback["X-Call-Id"] == first
    assert callback["X-Function-Name"] == "figlet"
    assert callback.body.decode().rstrip() == pyfiglet.figlet_format("Hi").rstrip()


async def test_the_functions_status_and_headers_reach_the_callback(server: Serving, callbacks: Receiver) -> None:
    await server.accept("chaos?status=418&body=teapot", X_Callback_Url=callbacks.url)
    (callback,) = await callbacks.wait_for(1)
    assert (callback["X-Function-Status"], callback.body) == ("418", b"teapot")


async def test_a_failing_callback_is_tried_again_and_the_function_not_run_again(tmp_path: Path) -> None:
    async with receiver() as callbacks, serving(tmp_path, environ={"callback_initial_wait": "50ms"}) as server:
        callbacks.answer = 503
        await server.accept("echo", b"once", X_Callback_Url=callbacks.url)
        await callbacks.wait_for(3)
        callbacks.answer = 204
        seen = await callbacks.wait_for(4)
        assert {callback.body for callback in seen} == {b"once"}
        assert {callback["X-Start-Time"] for callback in seen} == {seen[0]["X-Start-Time"]}
        # Every attempt tells of the same run: the same duration, to the microsecond.
        assert len({callback["X-Duration-Seconds"] for callback in seen}) == 1
        metrics = (await server.client.get(server.ready["metrics"] + "/metrics")).text
        assert (
            'queue_worker_messages_submitted_total{function_name="echo.openfaas-fn",queue_name="faas-request"} 1.0'
            in metrics
        )


async def test_one_worker_runs_max_inflight_calls_at_once_and_more_workers_more(tmp_path: Path) -> None:
    async def five_calls_of_a_second(folder: Path, workers: int) -> float:
        folder.mkdir()
        options = ("--max-inflight", "1", "--workers", str(workers))
        async with receiver() as callbacks, serving(folder, *options) as server:
            began = time.monotonic()
            for _ in range(5):
                await server.accept("sleep?duration=1s", X_Callback_Url=callbacks.url)
            return max(callback.at for callback in await callbacks.wait_for(5)) - began

    one, five = await five_calls_of_a_second(tmp_path / "one", 1), await five_calls_of_a_second(tmp_path / "five", 5)
    assert one >= 5
    assert five < one / 2


@pytest.mark.slow
async def test_a_call_of_a_minute_runs_once_though_ack_wait_is_five_seconds(tmp_path: Path) -> None:
    async with receiver() as callbacks, serving(tmp_path, environ={"ack_wait": "5s"}) as server:
        began = time.monotonic()
        await server.accept("sleep?duration=60s", X_Callback_Url=callbacks.url)
        assert time.monotonic() - began < 5
        (callback,) = await callbacks.wait_for(1, timeout_s=90)
        assert callback.at - began >= 60
        assert float(callback["X-Duration-Seconds"]) >= 60
        metrics = (await server.client.get(server.ready["metrics"] + "/metrics")).text
        assert (
            'queue_worker_messages_submitted_total{function_name="sleep.openfaas-fn",queue_name="faas-request"} 1.0'
            in metrics
        )


async def test_calls_accepted_without_a_worker_wait_for_one(tmp_path: Path) -> None:
    async with receiver() as callbacks:
        async with serving(tmp_path, "--workers", "0") as server:
            accepted = {await server.accept("echo", X_Callback_Url=callbacks.url) for _ in range(20)}
        async with serving(tmp_path, "--workers", "1"):
            await callbacks.wait_for_ids(accepted)


async def test_a_call_past_its_upstream_timeout_is_called_back_as_504(tmp_path: Path) -> None:
    async with (
        receiver() as callbacks,
        serving(tmp_path, environ={"upstream_timeout": "500ms", "max_retry_attempts": "1"}) as server,
    ):
        await server.accept("sleep?duration=30s", X_Callback_Url=callbacks.url)
        (callback,) = await callbacks.wait_for(1)
        assert callback["X-Function-Status"] == "504"
        assert b"did not answer within 0.5 s" in callback.body
