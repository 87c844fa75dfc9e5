"""Functions that scale by their load, to zero and from zero, called through the gateway."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from holdfast import sockets
from tests.support.raw_http import request
from tests.support.receiver import receiver
from tests.support.serving import Serving, serving

P = "com.openfaas.scale."
SHORT = {"scale_window": "2s", "scale_down_after": "1s"}
HANDLER = """
import time
def handle(event, context):
    time.sleep(0.2 if event.body == b"slow" else 0)
    return event.body
"""


def stack(folder: Path, **labels: str) -> str:
    """A stack of one function, `awake`, with a Python handler: a thousand processes at once would prove nothing."""
    (folder / "handler").mkdir()
    (folder / "handler" / "handler.py").write_text(HANDLER)
    given = {P + label.replace("_", "-"): value for label, value in labels.items()}
    functions: dict[str, Any] = {
        "awake": {"lang": "python3-http", "handler": "./handler", "image": "awake", "labels": given}
    }
    path = folder / "stack.yml"
    path.write_text(json.dumps({"version": 1.0, "provider": {"name": "openfaas"}, "functions": functions}))
    return str(path)


async def until(server: Serving, replicas: int) -> None:
    """Return once there are so many, all of them ready: the API tells of states, not of changes."""
    async with asyncio.timeout(60):
        while True:
            status = (await server.call("/system/function/awake", method="GET")).json()
            if status["replicas"] == status["availableReplicas"] == replicas:
                return
            await asyncio.sleep(0.1)


async def test_load_raises_the_replicas_to_the_maximum_and_they_fall_again(tmp_path: Path) -> None:
    path = stack(tmp_path, type="rps", target="1", max="3")
    async with serving(tmp_path, "--no-auth", "--stack", path, environ=SHORT) as server:
        done = asyncio.Event()

        async def call_on_and_on() -> None:
            while not done.is_set():
                assert (await server.call("/function/awake", b"x")).status_code == 200

        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(call_on_and_on())
            await until(server, 3)
            metrics = (await server.client.get(server.ready["metrics"] + "/metrics")).text
            assert 'gateway_service_ready_count{function_name="awake.openfaas-fn"} 3.0' in metrics
            done.set()
        await until(server, 1)


async def test_calls_that_wait_raise_the_replicas_and_they_fall_again(tmp_path: Path) -> None:
    path = stack(tmp_path, type="queue", target="10", max="3")
    # With the password of every day: the provider shows it to the gateway.
    async with (
        receiver() as callbacks,
        serving(tmp_path, "--stack", path, "--max-inflight", "2", environ=SHORT) as server,
    ):
        accepted = {await server.accept("awake", b"slow", X_Callback_Url=callbacks.url) for _ in range(60)}
        await server.logged("replicas=3")
        assert "calls waiting, 9 for each replica" in server.log
        await callbacks.wait_for_ids(accepted)
        await server.logged("calls waiting, 9 for each replica' replicas=1")
        assert "does not say what waits" not in server.log


async def test_a_thousand_waiting_calls_start_an_idle_function_once_and_are_all_answered(tmp_path: Path) -> None:
    path = stack(tmp_path, zero="true", zero_duration="2s", min="2")
    async with serving(tmp_path, "--no-auth", "--stack", path) as server:
        await server.logged("no call for 2s")
        await until(server, 0)
        started = server.log.count("replica started")
        port = int(server.url.rsplit(":", 1)[1])
        sockets.allow_many()  # for our side of them; the server was started before
        answers = await asyncio.gather(
            *(request(port, "/function/awake", b"%d" % number, timeout_s=110) for number in range(1000))
        )
        assert [(answer.status, answer.body) for answer in answers] == [(200, b"%d" % n) for n in range(1000)]
        assert server.log.count("replica started") - started == 2, "the least number, once"
        assert server.log.count("='a call waits'") == 1


async def test_asynchronous_calls_start_an_idle_function_once(tmp_path: Path) -> None:
    path = stack(tmp_path, zero="true", zero_duration="2s")
    async with receiver() as callbacks, serving(tmp_path, "--no-auth", "--stack", path) as server:
        await server.logged("no call for 2s")
        accepted = {await server.accept("awake", b"x", X_Callback_Url=callbacks.url) for _ in range(100)}
        await callbacks.wait_for_ids(accepted)
        assert {callback["X-Function-Status"] for callback in callbacks.callbacks} == {"200"}
        assert server.log.count("='a call waits'") == 1
