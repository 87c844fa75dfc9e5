"""Ports of Holdfast's own parts: what a callback, a page and a stranger on the machine can do with them. Nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.support.serving import HOLDFAST, Serving, serving

EVIL = json.dumps({"service": "evil", "image": "holdfast/echo", "envProcess": "cat"}).encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    environ = {"callback_initial_wait": "50ms", "callback_attempts": "2"}
    async with serving(tmp_path_factory.mktemp("open"), "--no-auth", "--workers", "2", environ=environ) as started:
        yield started


def port_of(url: str) -> str:
    return url.rpartition(":")[2]


async def functions(server: Serving) -> dict[str, Any]:
    shown = (await server.call("/system/functions", method="GET")).json()
    return {one["name"]: one for one in shown}


@pytest.mark.asyncio(loop_scope="module")
async def test_the_runtime_of_an_open_server_wants_its_password(server: Serving) -> None:
    url = f"{server.ready['provider']}/system/functions"
    assert (await server.client.post(url, content=EVIL)).status_code == 401
    assert (await server.client.get(url)).status_code == 401
    folder = server.folder / "data" / "secrets"
    assert folder.stat().st_mode & 0o077 == 0
    user, password = ((folder / f"basic-auth-{name}").read_text().strip() for name in ("user", "password"))
    assert (await server.client.get(url, auth=(user, password))).status_code == 200
    # The parts have it, and nobody else sees it among the processes.
    assert "echo" in await functions(server)
    for pids in server.ready["processes"].values():
        for pid in pids:
            assert password.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("part", ["provider", "metrics", "nats", "worker"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_callback_to_a_port_of_a_part_is_refused_however_it_is_spelled(server: Serving, part: str) -> None:
    url = server.ready.get(part) or _metrics_of_a_worker(server)
    for host in ("127.0.0.1", "localhost", "127.1", "0x7f000001", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"):
        target = f"http://{host}:{port_of(url)}/system/functions"
        refused = await server.call("/async-function/echo", EVIL, {"X-Callback-Url": target})
        assert refused.status_code == 400, target
        assert "/async-function/<name>" in refused.text


def _metrics_of_a_worker(server: Serving) -> str:
    lines = [line for line in server.log.splitlines() if "worker ready" in line]
    return lines[1].partition("metrics=")[2].split()[0]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_callback_reaches_functions_of_the_gateway_and_nothing_else_there(server: Serving) -> None:
    port = port_of(server.url)
    for path in ("/system/functions", "//system/functions", "/function/../system/functions", "/%73ystem/functions"):
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
            target = f"http://{host}:{port}{path}"
            refused = await server.call("/async-function/echo", EVIL, {"X-Callback-Url": target})
            assert refused.status_code == 400, target
    # By a name that only the worker could find to be the gateway's, the gateway itself refuses it.
    told = {"X-Function-Status": "200", "X-Function-Name": "echo"}
    for path in ("/system/functions", "//system/functions", "/system/../system/functions"):
        assert (await server.call(path, EVIL, told)).status_code in {403, 404}
    assert "evil" not in await functions(server)
    for target in ("/function/env", f"http://127.0.0.1:{port}/function/env", f"http://localhost:{port}/function/env"):
        call_id = await server.accept("echo", b"x", X_Callback_Url=target)
        assert (await callback_of(server, call_id))["status"] == "delivered"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_callback_does_not_go_round_the_gateway_to_a_replica(server: Serving) -> None:
    password = (server.folder / "data" / "secrets" / "basic-auth-password").read_text().strip()
    url = f"{server.ready['provider']}/system/functions?name=echo"
    (echo,) = (await server.client.get(url, auth=("admin", password))).json()
    call_id = await server.accept("echo", b"x", X_Callback_Url=echo["endpoints"][0] + "/")
    callback = await callback_of(server, call_id)
    assert (callback["status"], callback["error"]) == ("failed", "the receiver answered 403")


async def callback_of(server: Serving, call_id: str) -> dict[str, Any]:
    """What became of it in the end."""
    async with asyncio.timeout(30):
        while True:
            record = (await server.call(f"/async-function/{call_id}?wait=10s", method="GET")).json()
            callback: dict[str, Any] = record["callback"]
            if callback["status"] != "pending":
                return callback
            await asyncio.sleep(0.05)


async def test_an_open_server_says_in_one_line_what_that_allows_and_where_it_listens(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        HOLDFAST,
        *("serve", "--no-auth", "--host", "0.0.0.0", "--port", "0", "--metrics-port", "0"),
        *("--data", str(tmp_path / "data"), "--durability", "os"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        banner = ""
        async with asyncio.timeout(60):
            while "Ctrl-C" not in banner:
                line = await process.stdout.readline()
                assert line, "it did not become ready"
                banner += line.decode()
        (listens,) = [line for line in banner.splitlines() if "listens on" in line]
        url = listens.split()[2].rstrip(",")
        assert url.startswith("http://0.0.0.0:")
        port = port_of(url)
        (warning,) = [line for line in banner.splitlines() if "no password" in line]
        assert f"anyone who reaches {url} can deploy functions, that is, run commands on this machine" in warning
        async with httpx.AsyncClient(trust_env=False) as client:
            welcome = await client.get(f"http://127.0.0.1:{port}/")
        assert f"listening on {url}" in welcome.text
        assert "there is no password" in welcome.text
        process.terminate()
        _, log = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert f"url={url}" in log.decode()
    assert warning.partition("no password")[2] in log.decode()
