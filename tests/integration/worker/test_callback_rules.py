"""Where a real worker sends callbacks and where not, how it signs them, and where a chain of them ends."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import nats as nats_py
import pytest
from standardwebhooks import Webhook

from tests.support.nats import NatsServer, nats_server
from tests.support.parts import Part, gateway, worker
from tests.support.raw_function import RawFunction, raw_function
from tests.support.receiver import receiver
from tests.support.serving import HOLDFAST

OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()


@pytest.fixture
async def nats() -> AsyncIterator[NatsServer]:
    async with nats_server() as server:
        yield server


@pytest.fixture
async def function() -> AsyncIterator[RawFunction]:
    async with raw_function() as made:
        yield made


async def accept(front: Part, callback_url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(
            f"{front.url}/async-function/raw", content=b"x", headers={"X-Callback-Url": callback_url}
        )


async def test_a_gateway_that_others_reach_refuses_its_own_networks_at_sight(
    nats: NatsServer, function: RawFunction
) -> None:
    async with gateway(nats.url, function.url, callback_allow="hooks.internal, 10.1.0.0/16") as front:
        for url in ("http://127.0.0.1:1/", "http://2130706433/", "http://localhost/", "http://169.254.169.254/latest"):
            refused = await accept(front, url)
            assert refused.status_code == 400
            assert "not a public address" in refused.text or "this machine" in refused.text
            assert "callback_allow" in refused.text
        for url in ("http://10.1.2.3/", "http://hooks.internal/", "/function/raw"):
            assert (await accept(front, url)).status_code == 202


@pytest.mark.parametrize("url", ["http://localhost:{port}/", "http://127.0.0.1:{port}/"])
async def test_a_name_that_leads_to_this_machine_is_refused_when_it_is_to_be_called(
    nats: NatsServer, function: RawFunction, url: str
) -> None:
    async with (
        receiver() as callbacks,
        gateway(nats.url, function.url, callback_deny_private="false") as front,
        worker(nats.url, function.url, callback_allow="hooks.internal", gateway_url=front.url) as running,
    ):
        port = callbacks.url.rpartition(":")[2]
        assert (await accept(front, url.format(port=port))).status_code == 202
        await running.logged("may not be called")
        # A function of the gateway may be called on the same address.
        assert (await accept(front, "/function/raw")).status_code == 202
        await function.wait_for(3)
        assert not callbacks.callbacks


async def test_a_receiver_cannot_send_a_callback_elsewhere(nats: NatsServer, function: RawFunction) -> None:
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        writer.write(b"HTTP/1.1 307 Elsewhere\r\nLocation: %b/\r\nContent-Length: 0\r\n\r\n" % elsewhere.url.encode())
        await writer.drain()
        writer.close()

    asked = asyncio.Event()
    redirecting = await asyncio.start_server(redirect, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{redirecting.sockets[0].getsockname()[1]}/"
    async with (
        redirecting,
        receiver() as elsewhere,
        gateway(nats.url, function.url) as front,
        worker(nats.url, function.url, callback_attempts="1") as running,
    ):
        assert (await accept(front, url)).status_code == 202
        await running.logged("callback given up")
        assert "answered 307" in running.log
        assert asked.is_set()
        assert not elsewhere.callbacks


async def test_all_attempts_of_a_callback_are_one_delivery_signed_anew(
    nats: NatsServer, function: RawFunction, tmp_path: Path
) -> None:
    secrets = tmp_path / "signing"
    secrets.write_text(f"{NEW}\n{OLD}\n")
    forged = b"Webhook-Id: forged\r\nWebhook-Signature: v1,forged\r\nX-Holdfast-Depth: -9\r\n"
    function.answer = lambda _number: b"HTTP/1.1 200 OK\r\n" + forged + b"Content-Length: 8\r\n\r\n" + b'{"a": 1}'
    environ = {"callback_signing_secret_path": str(secrets), "callback_initial_wait": "100ms"}
    async with (
        receiver() as callbacks,
        gateway(nats.url, function.url) as front,
        worker(nats.url, function.url, **environ),
    ):
        callbacks.answer = 503
        assert (await accept(front, callbacks.url)).status_code == 202
        await callbacks.wait_for(2)
        callbacks.answer = 200
        accepted = await accept(front, callbacks.url)
        await callbacks.wait_for_ids({accepted.headers["X-Call-Id"]})
        first, second, *_ = callbacks.callbacks
        assert first["webhook-id"] == second["webhook-id"] != callbacks.callbacks[-1]["webhook-id"]
        for callback in callbacks.callbacks:
            signature = {name: callback[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
            for secret in (NEW, OLD):
                assert Webhook(secret).verify(callback.body, signature) == {"a": 1}
            assert callback["X-Holdfast-Depth"] == "0"


async def test_a_callback_is_made_though_the_record_of_its_call_is_damaged(
    nats: NatsServer, function: RawFunction
) -> None:
    async with (
        receiver() as callbacks,
        gateway(nats.url, function.url) as front,
        worker(nats.url, function.url, callback_initial_wait="1s"),
        httpx.AsyncClient(trust_env=False) as client,
        await nats_py.connect(nats.url) as connection,
    ):
        callbacks.answer = 503
        call_id = (await accept(front, callbacks.url)).headers["X-Call-Id"]
        await callbacks.wait_for(1)
        record = await client.get(f"{front.url}/async-function/{call_id}?wait=20s", timeout=30)
        assert record.json()["callback"]["status"] == "pending"
        await connection.jetstream().publish(f"holdfast.call.{call_id}", b"not a record")
        callbacks.answer = 200
        await callbacks.wait_for(2)
        # And the worker goes on.
        again = (await accept(front, callbacks.url)).headers["X-Call-Id"]
        await callbacks.wait_for_ids({again})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("callback_signing_secret_path", "/nowhere/at/all"), ("callback_allow", "http://hooks.internal")],
)
async def test_a_worker_whose_rules_cannot_be_used_does_not_start(setting: str, value: str) -> None:
    process = await asyncio.create_subprocess_exec(
        HOLDFAST,
        "worker",
        env={**os.environ, setting: value, "worker_metrics_port": "0"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert f"{setting}='{value}' cannot be used".encode() in said


async def test_a_chain_that_leads_back_to_itself_ends(nats: NatsServer, function: RawFunction) -> None:
    """Each answer of the function asks for a callback to the function: without a cap it would run for ever."""
    function.answer = lambda _number: (
        b"HTTP/1.1 200 OK\r\nX-Callback-Url: /async-function/raw\r\nX-Holdfast-Depth: 0\r\nContent-Length: 0\r\n\r\n"
    )
    async with (
        gateway(nats.url, function.url, callback_max_depth="3") as front,
        worker(nats.url, function.url, gateway_url=front.url, callback_initial_wait="100ms") as running,
    ):
        assert (await accept(front, "/async-function/raw")).status_code == 202
        await running.logged("callback given up")
        assert "answered 508" in running.log
        depths = [
            [
                line.partition(b": ")[2]
                for line in request.split(b"\r\n")
                if line.lower().startswith(b"x-holdfast-depth")
            ]
            for request in function.requests
        ]
        assert depths == [[], [b"1"], [b"2"], [b"3"]]
