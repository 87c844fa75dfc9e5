import os
from pathlib import Path

import pytest

from tests.support.raw_http import request
from tests.support.watchdogs import watchdog


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    (folder / "sub dir").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "index.html").write_text("<p>home</p>")
    (folder / "sub dir" / "index.html").write_text("sub")
    (folder / "large.bin").write_bytes(os.urandom(3_000_000))
    (folder / ".hidden").write_text("secret")
    (tmp_path / "outside.txt").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "outside.txt")
    (folder / "outdir").symlink_to(tmp_path)
    (folder / "in").symlink_to(folder / "index.html")
    (folder / "shown").symlink_to(folder / ".hidden")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "fifo")
    return folder


async def test_files_are_served_with_their_type_and_a_folder_is_its_index(site: Path) -> None:
    async with watchdog(mode="static", static_path=str(site)) as running:
        home = await request(running.port, "/?x=1", method="GET")
        assert (home.status, home.text) == (200, "<p>home</p>")
        assert home.header("Content-Type") == "text/html; charset=utf-8"
        assert (await request(running.port, "/sub%20dir/", method="GET")).text == "sub"
        assert (await request(running.port, "/in", method="GET")).text == "<p>home</p>"
        moved = await request(running.port, "/sub%20dir?x=1", method="GET")
        assert (moved.status, moved.header("Location")) == (308, "./sub%20dir/?x=1")
        large = await request(running.port, "/large.bin", method="GET")
        assert large.body == (site / "large.bin").read_bytes()
        assert large.header("Content-Type") == "application/octet-stream"
        head = await request(running.port, "/large.bin", method="HEAD")
        assert (head.status, head.header("Content-Length"), head.body) == (200, "3000000", b"")


@pytest.mark.parametrize(
    "target",
    [
        "/out",
        "/outdir/outside.txt",
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/sub%20dir/..%2f..%2foutside.txt",
        "/.hidden",
        "/%2ehidden",
        "/shown",
        "/loop",
        "/fifo",
        "/empty/",
        "/empty",
        "/nothing",
        "/a%00b",
        "/%ff%fe",
        "/" + "x" * 5000,
        "//etc/passwd",
        "/index.html/x",
    ],
)
async def test_nothing_else_is_served(site: Path, target: str) -> None:
    async with watchdog(mode="static", static_path=str(site)) as running:
        answer = await request(running.port, target, method="GET")
        assert answer.status == 404
        assert "secret" not in answer.text


async def test_a_client_that_has_the_file_is_told_so(site: Path) -> None:
    async with watchdog(mode="static", static_path=str(site)) as running:
        first = await request(running.port, method="GET")
        tag, changed = str(first.header("ETag")), str(first.header("Last-Modified"))
        for header in (("If-None-Match", tag), ("If-None-Match", f'"a", W/{tag}'), ("If-Modified-Since", changed)):
            assert (await request(running.port, method="GET", headers=[header])).status == 304
        for header in (("If-None-Match", '"other"'), ("If-Modified-Since", "yesterday")):
            assert (await request(running.port, method="GET", headers=[header])).status == 200
        assert (await request(running.port)).status == 405


@pytest.mark.parametrize("path", ["", "/no/such/folder"])
async def test_without_a_folder_the_watchdog_ends_with_the_reason(path: str) -> None:
    async with watchdog(ready=False, mode="static", static_path=path) as running:
        assert await running.process.wait() == 2
        assert "a folder that exists" in await running.logged("function not started")
