"""What a web page can do to an open server on this machine: with a real browser, where there is one.

Stored results must not run in the gateway's origin, and names that a page's owner points here must not be answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.browser import open_page
from tests.support.serving import Serving, serving

DEPLOY = "fetch('/system/functions',{method:'POST',body:JSON.stringify({service:'evil',image:'holdfast/echo:latest'})})"
SCRIPT = f"<script>document.getElementById('seen').textContent='it ran';{DEPLOY}</script>"
HTML = f"<!doctype html><p id='seen'>it is shown</p>{SCRIPT}"
XHTML = f"<html xmlns='http://www.w3.org/1999/xhtml'><body><p id='seen'>it is shown</p>{SCRIPT}</body></html>"
SVG = f"<svg xmlns='http://www.w3.org/2000/svg'><text id='seen'>it is shown</text>{SCRIPT}</svg>"
PAGES = {"text/html": HTML, "application/xhtml+xml": XHTML, "image/svg+xml": SVG, "text/xml": XHTML}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("open"), "--no-auth", environ={"inline_body_bytes": "4096"}) as started:
        yield started


async def stored(server: Serving, content_type: str, page: str) -> str:
    """The address of a result that is this page."""
    call_id = await server.accept("echo", page.encode(), Content_Type=content_type)
    ended = await server.call(f"/async-function/{call_id}?wait=30s", method="GET")
    assert ended.json()["status"] == "succeeded"
    return f"{server.url}/async-function/{call_id}/result"


async def functions(server: Serving) -> set[str]:
    return {one["name"] for one in (await server.call("/system/functions", method="GET")).json()}


@contextlib.asynccontextmanager
async def served_page(content_type: str, page: str) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(page)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n{page}".encode())
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize("size", [0, 20_000], ids=["small", "in pieces"])
@pytest.mark.parametrize("content_type", PAGES)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_stored_page_is_shown_and_not_run(server: Serving, content_type: str, size: int) -> None:
    page = PAGES[content_type] + " " * size
    shown = await open_page(await stored(server, content_type, page))
    assert "it is shown" in shown
    assert "it ran" not in shown.partition("<script")[0]
    assert "evil" not in await functions(server)


@pytest.mark.parametrize("content_type", PAGES)
async def test_the_same_page_would_have_run(content_type: str) -> None:
    async with served_page(content_type, PAGES[content_type]) as url:
        assert "it ran" in (await open_page(url)).partition("<script")[0]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_name_that_was_made_to_point_here_shows_a_browser_nothing(server: Serving) -> None:
    port = server.url.rpartition(":")[2]
    for path in ("/openapi.json", "/system/functions", "/function/echo"):
        shown = await open_page(f"http://attacker.example:{port}{path}", hosts="MAP attacker.example 127.0.0.1")
        assert "allowed_hosts" in shown, shown
        assert "figlet" not in shown
    assert "figlet" in await open_page(f"{server.url}/system/functions")


@pytest.mark.parametrize("size", [2, 20_000], ids=["small", "in pieces"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.asyncio(loop_scope="module")
async def test_every_stored_result_is_sandboxed(server: Serving, method: str, size: int) -> None:
    result = await server.client.request(method, await stored(server, "text/html", "x" * size))
    assert result.status_code == 200
    assert result.headers["Content-Length"] == str(size)
    assert result.headers["Content-Type"] == "text/html"
    assert result.headers["X-Content-Type-Options"] == "nosniff"
    assert result.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = result.headers["Content-Security-Policy"].split("; ")
    assert policy[:2] == ["sandbox", "default-src 'none'"]


@pytest.mark.parametrize(("address", "hosts"), [("127.0.0.1", ["127.0.0.1", "localhost"]), ("::1", ["[::1]"])])
async def test_clients_that_call_by_an_address_or_localhost_need_no_setting(
    tmp_path: Path, address: str, hosts: list[str]
) -> None:
    async with serving(tmp_path, "--no-auth", "--host", address, environ={"allowed_hosts": ""}) as server:
        port = server.url.rpartition(":")[2]
        for host in hosts:
            answer = await server.client.post(f"http://{host}:{port}/function/echo", content=b"hi")
            assert (answer.status_code, answer.content) == (200, b"hi"), host
            assert (await server.client.get(f"http://{host}:{port}/system/functions")).status_code == 200, host
