"""What is refused, and with which words. One server for the whole file: no test changes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.serving import HOLDFAST, Serving, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="server")
async def _server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("serve"), environ={"max_body_bytes": "1000"}) as started:
        yield started


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "words"),
    [
        ("POST", "/async-function/nobody", {}, 404, "function nobody.openfaas-fn is not deployed"),
        ("POST", "/async-function/figlet.elsewhere", {}, 404, "figlet.elsewhere is not deployed"),
        ("POST", "/function/nobody", {}, 404, "is not deployed"),
        ("GET", "/async-function/figlet", {}, 405, "is a POST"),
        ("PUT", "/async-function/figlet", {}, 405, "is a POST"),
        ("POST", "/async-function/", {}, 400, "names no function"),
        ("POST", "/async-function/a%20b", {}, 400, "names no function"),
        ("POST", "/async-function/echo", {"X-Callback-Url": "example.com"}, 400, "expected an absolute URL"),
        ("POST", "/async-function/echo", {"X-Callback-Url": "ftp://example.com"}, 400, "expected an absolute URL"),
        ("POST", "/async-function/echo", {"X-Callback-Url": "http://10.0.0.1/"}, 400, "not a public address (private)"),
        ("POST", "/async-function/echo", {"X-Callback-Url": "http://0xa9fea9fe/"}, 400, "(link-local)"),
        ("POST", "/async-function/echo", {"X-Holdfast-Depth": "16"}, 508, "17 callbacks led to this call"),
        ("POST", "/async-function/echo", {"X-Call-Id": "a/b"}, 400, "1 to 128 characters"),
        ("GET", "/function/echo", {"X-Timeout": "soon"}, 400, "X-Timeout cannot be used"),
        ("GET", "/nowhere", {}, 404, ""),
    ],
)
async def test_a_bad_request_is_refused_with_a_text_that_says_what_to_do(
    server: Serving, *, method: str, path: str, headers: dict[str, str], status: int, words: str
) -> None:
    answer = await server.call(path, b"x", headers, method)
    assert answer.status_code == status
    assert words in answer.text
    if status == 405:
        assert answer.headers["Allow"] == "POST"


async def test_a_body_over_the_limit_is_refused_before_it_is_sent(server: Serving) -> None:
    answer = await server.raw(
        b"POST /async-function/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"1000 bytes" in answer


async def test_a_chunked_body_over_the_limit_is_refused_as_it_arrives(server: Serving) -> None:
    head = b"POST /async-function/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await server.raw(head + b"1f4\r\n" + b"x" * 500 + b"\r\n" + b"1f5\r\n" + b"x" * 501 + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("length", [0, 1000])
async def test_a_body_up_to_the_limit_is_accepted(server: Serving, length: int) -> None:
    await server.accept("echo", b"x" * length)


async def test_system_needs_the_password_and_takes_the_one_in_the_data_folder(server: Serving) -> None:
    refused = await server.client.get(server.url + "/system/functions")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic")
    wrong = await server.client.get(server.url + "/system/functions", auth=("admin", "wrong"))
    assert wrong.status_code == 401
    secrets = server.folder / "data" / "secrets"
    password_file = secrets / "basic-auth-password"
    assert password_file.stat().st_mode & 0o777 == 0o600
    user = (secrets / "basic-auth-user").read_text().strip()
    allowed = await server.client.get(server.url + "/system/functions", auth=(user, password_file.read_text().strip()))
    assert {function["name"] for function in allowed.json()} >= {"figlet", "echo", "env", "sleep", "chaos"}
    functions = await server.client.get(server.ready["provider"] + "/system/functions")
    assert functions.status_code == 401, "the runtime's own port must not be open either"


async def test_a_second_server_on_the_same_port_or_folder_is_refused(server: Serving, tmp_path: Path) -> None:
    async def serve(*options: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            str(HOLDFAST),
            *("serve", "--metrics-port", "0", *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode is not None
        return process.returncode, err.decode()

    port = server.url.rsplit(":", 1)[1]
    code, err = await serve("--port", port, "--data", str(tmp_path / "other"))
    assert code == 1
    assert f"127.0.0.1:{port}" in err
    assert "--port" in err
    code, err = await serve("--port", "0", "--data", str(server.folder / "data"))
    assert code == 1
    assert "another holdfast serve uses the data folder" in err
