"""A wrong program is never believed: whoever has a replica's port by now does not answer for its function."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.impostor import WORDS, impostor
from tests.support.receiver import receiver
from tests.support.serving import Serving, serving

HANDLER = """
import os, time
def handle(event, context):
    headers = {name.lower(): value for name, value in event.headers.items()}
    return {"body": {"instance": headers.get("x-holdfast-instance"), "body": event.body.decode()},
            "headers": {"X-Holdfast-Instance": "forged/by/me"}}
"""
STACK = {
    "functions": {
        "python": {"lang": "python3-http", "handler": "./handler", "image": "i"},
        "command": {"fprocess": "env", "image": "i"},
        "server": {
            "fprocess": f"{sys.executable} server.py",
            "image": "i",
            "environment": {"mode": "http"},
            "handler": "./handler",
            "lang": "dockerfile",
        },
    }
}
SERVER = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header("X-Holdfast-Instance", "forged/by/me")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Request).serve_forever()
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    (tmp_path / "handler").mkdir()
    (tmp_path / "handler" / "handler.py").write_text(HANDLER)
    (tmp_path / "handler" / "server.py").write_text(SERVER)
    (tmp_path / "stack.yml").write_text(json.dumps(STACK))
    async with serving(tmp_path, "--stack", str(tmp_path / "stack.yml"), "--no-auth") as running:
        yield running


async def endpoint(server: Serving, function: str) -> tuple[str, str]:
    """URL and name of a function's replica, once it is ready."""
    answer = await server.call(f"/system/function/{function}?wait=30s", method="GET")
    shown = answer.json()
    return shown["endpoints"][0], shown["instances"][0]


async def test_neither_function_nor_caller_sees_or_says_who_is_meant(server: Serving) -> None:
    for function in ("python", "command", "server"):
        url, name = await endpoint(server, function)
        forged = {"X-Holdfast-Instance": "forged/by/caller"}
        method = "GET" if function == "server" else "POST"
        for _ in range(3):
            answer = await server.call(f"/function/{function}", b"", forged, method)
            assert answer.status_code == 200, answer.text
            assert "x-holdfast-instance" not in answer.headers
            for word in (name, "forged", "Holdfast_Instance"):
                assert word not in answer.text
        async with httpx.AsyncClient(trust_env=False) as client:
            # Whoever calls the port by hand names nobody, and is served.
            assert (await client.request(method, url)).status_code == 200
            wrong = await client.request(method, url, headers={"X-Holdfast-Instance": name + "0"})
            assert wrong.status_code == 421
            assert "nothing was run" in wrong.text
            assert (await client.request(method, url, headers={"x-holdfast-instance": name})).status_code == 200


async def test_an_asynchronous_call_brings_its_own_name_to_nobody(server: Serving) -> None:
    async with receiver() as callbacks:
        await server.accept("python", b"x", X_Callback_Url=callbacks.url, X_Holdfast_Instance="forged/by/caller")
        (callback,) = await callbacks.wait_for(1)
    assert json.loads(callback.body) == {"instance": None, "body": "x"}
    assert "X-Holdfast-Instance" not in callback


async def test_whoever_takes_the_port_of_a_replica_that_was_killed_answers_for_nobody(server: Serving) -> None:
    url, _ = await endpoint(server, "python")
    assert (await server.call("/function/python", b"before")).json()["body"] == "before"
    async with receiver() as callbacks:
        await server.accept("python", b"0", X_Callback_Url=callbacks.url)
        await callbacks.wait_for(1)
        server.kill("provider")  # its watchdogs end with it
        async with impostor(int(url.rsplit(":", 1)[1])) as stranger:
            ids = [await server.accept("python", b"async", X_Callback_Url=callbacks.url) for _ in range(5)]
            answers = await asyncio.gather(*(server.call("/function/python", b"sync") for _ in range(5)))
            told = await callbacks.wait_for(6)
            await stranger.asked()
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert answer.json()["body"] == "sync"
    for callback in told[1:]:
        assert callback["X-Function-Status"] == "200"
        assert json.loads(callback.body)["body"] == "async"
    assert all(WORDS not in callback.body for callback in told)
    assert {callback["X-Call-Id"] for callback in told[1:]} == set(ids)
    assert "is not python.openfaas-fn/" in server.log
