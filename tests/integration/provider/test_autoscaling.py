"""A provider scales its functions by what their watchdogs report; the replicas are called directly here."""

from __future__ import annotations

import asyncio
import base64
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.providers import RunningProvider, provider
from tests.support.raw_http import RawAnswer, request

P = "com.openfaas.scale."
NOTHING = "functions: {}\n"
# Runs as long as its body says, in seconds.
SLEEP = "sh -c 'sleep $(cat); echo done'"


@asynccontextmanager
async def scaling(folder: Path, *, grace_period: str = "10s", gateway_url: str = "") -> AsyncIterator[RunningProvider]:
    async with provider(
        NOTHING,
        folder,
        scale_window="1s",
        scale_down_after="1s",
        grace_period=grace_period,
        gateway_url=gateway_url,
        gateway_secret_mount_path=str(folder) if gateway_url else "",
        provider_data=str(folder / "data"),
    ) as running:
        yield running


async def deploy(running: RunningProvider, name: str, process: str = "cat", **labels: str) -> None:
    given = {P + label.replace("_", "-"): value for label, value in labels.items()}
    document = {"service": name, "image": "command", "envProcess": process, "labels": given}
    answer = await running.client.post("/system/functions", json=document)
    assert answer.status_code == 202, answer.text
    await running.ready(name)


async def scale(running: RunningProvider, name: str, replicas: int) -> None:
    answer = await running.client.post(f"/system/scale-function/{name}", json={"replicas": replicas})
    assert answer.status_code == 202, answer.text


async def describe(running: RunningProvider, name: str) -> dict[str, Any]:
    status: dict[str, Any] = (await running.get(f"/system/function/{name}")).json()
    return status


@asynccontextmanager
async def load(call: Callable[[], Awaitable[RawAnswer]], callers: int) -> AsyncIterator[None]:
    """Call on and on from so many callers; every call must succeed."""
    done = asyncio.Event()

    async def call_on_and_on() -> None:
        while not done.is_set():
            assert (await call()).status == 200

    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(call_on_and_on())
        try:
            yield
        finally:
            done.set()


async def test_calls_a_second_raise_the_replicas_to_the_maximum_and_they_fall_again(tmp_path: Path) -> None:
    async with scaling(tmp_path) as running:
        # More than two a second are enough for the maximum of three.
        await deploy(running, "f", type="rps", target="1", target_proportion="1", max="3")
        port = await running.port("f")
        async with load(lambda: request(port, body=b"x"), 2):
            await running.logged("replicas=3")
            assert any("before=1" in line and "calls a second, 1 for each replica" in line for line in running.lines)
        await running.logged("replicas=1")
        assert (await describe(running, "f"))["replicas"] == 1


async def test_calls_at_a_time_raise_the_replicas_while_long_ones_run(tmp_path: Path) -> None:
    async with scaling(tmp_path) as running:
        await deploy(running, "f", SLEEP, type="capacity", target="1", target_proportion="0.6", max="10")
        port = await running.port("f")
        calls = [asyncio.create_task(request(port, body=b"4")) for _ in range(2)]
        await running.logged("replicas=4")
        assert {(await call).status for call in calls} == {200}
        await running.logged("replicas=1")
        assert not any("replicas=5" in line for line in running.lines)


async def test_busy_processors_raise_the_replicas_those_of_forked_commands_included(tmp_path: Path) -> None:
    busy = "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'"
    async with scaling(tmp_path) as running:
        # However busy the machine is, a tenth of a processor for each of two replicas is to be had.
        await deploy(running, "f", busy, type="cpu", target="100", target_proportion="1", max="3")
        port = await running.port("f")
        async with load(lambda: request(port), 2):
            await running.logged("replicas=3")
            assert any("millicores, 100 for each replica" in line for line in running.lines)
        await running.logged("replicas=1")


async def test_a_function_goes_to_zero_when_no_call_has_come_for_long_enough(tmp_path: Path) -> None:
    async with scaling(tmp_path) as running:
        await deploy(running, "f", zero="true", zero_duration="1s", min="2")
        await running.logged("no call for 1s")
        assert (await describe(running, "f"))["replicas"] == 0
        # Somebody who waits for it: it starts with its minimum.
        await running.ready("f")
        assert (await describe(running, "f"))["replicas"] == 2
        assert sum("reason='a call waits'" in line for line in running.lines) == 1
        await running.logged("no call for 1s", times=2)


async def test_a_call_that_runs_keeps_its_function_from_going_to_zero(tmp_path: Path) -> None:
    async with scaling(tmp_path) as running:
        await deploy(running, "f", SLEEP, zero="true", zero_duration="1s")
        assert (await request(await running.port("f"), body=b"4")).text == "done\n"
        assert not any("no call for" in line for line in running.lines)
        await running.logged("no call for 1s")


async def test_a_watchdog_that_says_nothing_while_a_call_runs_is_not_idle(tmp_path: Path) -> None:
    async with scaling(tmp_path) as running:
        await deploy(running, "f", SLEEP, zero="true", zero_duration="1s")
        (watchdog,) = psutil.Process(running.process.pid).children()
        call = asyncio.create_task(request(await running.port("f"), body=b"2"))
        async with asyncio.timeout(30):
            while not watchdog.children():
                await asyncio.sleep(0.01)
            await asyncio.sleep(1.5)  # its first report, which says that a call runs
        watchdog.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await running.logged("no call for")
        watchdog.send_signal(signal.SIGCONT)
        assert (await call).text == "done\n"
        await running.logged("no call for 1s")


async def test_fewer_replicas_cost_no_call_that_takes_longer_than_the_grace_period(tmp_path: Path) -> None:
    async with scaling(tmp_path, grace_period="100ms") as running:
        await deploy(running, "f", SLEEP)
        call = asyncio.create_task(request(await running.port("f"), body=b"5"))
        (watchdog,) = psutil.Process(running.process.pid).children()
        async with asyncio.timeout(30):
            while not watchdog.children():
                await asyncio.sleep(0.01)
        await scale(running, "f", 0)
        assert (await describe(running, "f"))["endpoints"] == []
        assert (await call).text == "done\n"
        gone, _ = await asyncio.to_thread(psutil.wait_procs, [watchdog], 30)
        assert gone


async def test_a_number_that_was_asked_for_holds_for_the_quiet_window_and_then_load_decides(tmp_path: Path) -> None:
    async with scaling(tmp_path) as running:
        await deploy(running, "f", type="rps", min="1", max="5")
        await scale(running, "f", 3)
        await running.logged("reason='asked for'")
        await running.logged("calls a second")
        assert (await describe(running, "f"))["replicas"] == 1


async def test_a_new_version_brings_new_rules_and_at_least_its_minimum(tmp_path: Path) -> None:
    async with scaling(tmp_path) as running:
        await deploy(running, "f")
        await deploy(running, "f", min="2")
        assert (await describe(running, "f"))["replicas"] == 2
        await deploy(running, "f", zero="true", zero_duration="1s")
        await running.logged("no call for 1s")


async def test_what_waits_is_asked_of_the_gateway_with_its_password(tmp_path: Path) -> None:
    """The gateway is a socket here: what is asked, and what happens when it does not answer, is to be seen."""
    (tmp_path / "basic-auth-user").write_text("admin")
    (tmp_path / "basic-auth-password").write_text("of the gateway")
    waiting = b'[{"functions": [{"function": "f.openfaas-fn", "waiting": 35}]}, {"functions": []}]'
    answers = [b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", waiting, b"[1, 2]", waiting]
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        body = answers[min(len(asked), len(answers)) - 1]
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        writer.write(body if body.startswith(b"HTTP") else head + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with (
        server,
        scaling(tmp_path, gateway_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as running,
    ):
        await deploy(running, "f", SLEEP, type="queue", target="10", target_proportion="1", max="9")
        call = asyncio.create_task(request(await running.port("f"), body=b"3"))
        await running.logged("reason='35.0 calls waiting, 10 for each replica' replicas=4")
        await running.logged("the gateway does not say what waits", times=2)
        assert (await describe(running, "f"))["replicas"] == 4, "what is not known changes nothing"
        assert (await call).status == 200
    credentials = base64.b64encode(b"admin:of the gateway")
    assert all(b"GET /system/queues HTTP/1.1\r\n" in head and b"Basic " + credentials in head for head in asked)


async def test_labels_that_cannot_be_used_are_answered_400_and_change_nothing(tmp_path: Path) -> None:
    async with scaling(tmp_path) as running:
        await deploy(running, "f")
        refused: list[dict[str, str]] = [
            {"min": "0"},
            {"min": "3", "max": "2"},
            {"type": "weather"},
            {"zero": "maybe"},
            {"type": "queue"},
        ]
        for labels in refused:
            given = {P + label: value for label, value in labels.items()}
            document = {"service": "f", "image": "changed", "envProcess": "cat", "labels": given}
            answer = await running.client.post("/system/functions", json=document)
            assert (answer.status_code, answer.text.startswith(f"f: label {P}")) == (400, True), answer.text
            assert (await describe(running, "f"))["image"] == "command"
