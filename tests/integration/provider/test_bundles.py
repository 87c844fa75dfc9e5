"""Bundles, as `holdfast push` sends them, at a real provider; their requirements come from wheels made here."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.bundles import bundle, image_of, wheel
from tests.support.providers import RunningProvider, provider
from tests.support.raw_http import request

HANDLER = "import greeting\ndef handle(event, context):\n    return greeting.text(event.body.decode())\n"
GREETING = "def text(name):\n    return f'Hello, {name}!'\n"


async def push(running: RunningProvider, content: bytes, name: str = "hello") -> list[dict[str, Any]]:
    answer = await running.client.post(f"/system/bundles?name={name}", content=content)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


async def deploy(running: RunningProvider, content: bytes, name: str = "hello", **more: Any) -> httpx.Response:
    document = {"service": name, "image": image_of(content, name), **more}
    return await running.client.post("/system/functions", json=document)


def with_library(folder: Path) -> bytes:
    library = wheel(folder, "greeting", GREETING)
    files: dict[str, bytes | str] = {
        "handler.py": HANDLER,
        library.name: library.read_bytes(),
        "requirements.txt": f"# a library of its own\n./{library.name}\n",
    }
    return bundle(files)


async def test_a_handler_with_a_requirement_is_installed_deployed_and_answers_also_after_a_restart(
    tmp_path: Path,
) -> None:
    content = with_library(tmp_path)
    async with provider("functions: {}", tmp_path, provider_data=str(tmp_path / "data")) as running:
        lines = await push(running, content)
        assert lines[-1] == {"status": "ready", "image": image_of(content)}
        assert any("greeting" in line["text"] for line in lines if line["status"] == "installing")
        assert (await deploy(running, content)).status_code == 202
        assert (await request(await running.port("hello"), body=b"World")).text == "Hello, World!"
        shown = (await running.get("/system/function/hello")).json()
        assert shown["image"] == image_of(content)
        assert shown["updatedReplicas"] == 1
        assert (await running.get("/system/bundles")).json()[0]["image"] == image_of(content)
    async with provider("functions: {}", tmp_path, provider_data=str(tmp_path / "data")) as running:
        assert (await request(await running.port("hello"), body=b"again")).text == "Hello, again!"


async def test_the_same_content_is_installed_once_also_when_it_comes_twice_at_once(tmp_path: Path) -> None:
    content = with_library(tmp_path)
    async with provider("functions: {}", tmp_path, provider_data=str(tmp_path / "data")) as running:
        both = await asyncio.gather(push(running, content), push(running, content))
        assert [lines[-1]["status"] for lines in both] == ["ready", "ready"]
        assert sorted(any(line["status"] == "installing" for line in lines) for lines in both) == [False, True]
        third = await push(running, content)
        assert third[0]["text"] == "this content is here already"
        assert [path.name for path in (tmp_path / "data" / "bundles").iterdir()] == [image_of(content)[-64:]]


async def test_a_requirement_that_is_not_to_be_had_fails_with_pips_own_words_and_leaves_nothing(tmp_path: Path) -> None:
    requirements = "--no-index\nno-such-library==9.9\n"
    content = bundle({"handler.py": "", "requirements.txt": requirements})
    async with provider("functions: {}", tmp_path, provider_data=str(tmp_path / "data")) as running:
        failed = (await push(running, content))[-1]
        assert failed["status"] == "failed"
        assert "hello: its requirements cannot be installed:" in failed["error"]
        assert "No matching distribution found for no-such-library==9.9" in failed["error"]
        assert list((tmp_path / "data" / "bundles").iterdir()) == []
        refused = await deploy(running, content)
        assert refused.status_code == 400
        assert "is not here: push it first" in refused.text


def that_never_builds(report: Path) -> dict[str, bytes | str]:
    """Files of a function whose library writes its process's number and then builds for ever."""
    project = '[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n'
    slow = f"import os, pathlib, time\npathlib.Path({str(report)!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    return {
        "handler.py": "",
        "requirements.txt": "--no-index\n./slow\n",
        "slow/pyproject.toml": project,
        "slow/slow.py": slow,
    }


async def test_an_installation_ends_and_leaves_nothing_when_its_sender_leaves(tmp_path: Path) -> None:
    report, bundles = tmp_path / "report", tmp_path / "data" / "bundles"
    content = bundle(that_never_builds(report))
    async with provider("functions: {}", tmp_path, provider_data=str(tmp_path / "data")) as running:
        async with running.client.stream("POST", "/system/bundles?name=hello", content=content) as answer:
            assert answer.status_code == 200
            async with asyncio.timeout(30):
                while not report.exists() or not report.read_text():
                    await asyncio.sleep(0.02)
            assert list(bundles.iterdir())
        # Nobody tells outside when all is gone.
        async with asyncio.timeout(30):
            while list(bundles.iterdir()) or psutil.pid_exists(int(report.read_text())):
                await asyncio.sleep(0.02)
        await running.logged("bundle given up")


async def test_installing_has_a_limit(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    files = that_never_builds(tmp_path / "report")
    async with provider("functions: {}", tmp_path, provider_data=data, install_timeout="2s") as running:
        failed = (await push(running, bundle(files)))[-1]
        assert failed == {"status": "failed", "error": "hello: its requirements were not installed within 2 s"}
        assert list((tmp_path / "data" / "bundles").iterdir()) == []


async def test_a_command_runs_in_its_bundles_folder_and_finds_its_libraries(tmp_path: Path) -> None:
    library = wheel(tmp_path, "greeting", GREETING)
    files: dict[str, bytes | str] = {
        "main.py": "import greeting, sys\nprint(greeting.text(sys.stdin.read()), end='')\n",
        library.name: library.read_bytes(),
        "requirements.txt": f"./{library.name}\n",
    }
    content = bundle(files, lang="dockerfile")
    async with provider("functions: {}", tmp_path, provider_data=str(tmp_path / "data")) as running:
        assert (await push(running, content))[-1]["status"] == "ready"
        assert (await deploy(running, content)).status_code == 400
        assert (await deploy(running, content, envProcess="python3 main.py")).status_code == 202
        assert (await request(await running.port("hello"), body=b"you")).text == "Hello, you!"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"nothing", "no whole tar.gz archive"),
        (bundle({"handler.py": ""}, name="other"), "is for 'other'"),
        (bundle({"readme.txt": ""}), "lang python3-http needs a file handler.py in it"),
        (bundle({"handler.py": "", "requirements.txt": b"\xff\xfe"}), "requirements.txt in it is not UTF-8"),
    ],
)
async def test_a_bundle_that_cannot_be_run_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, error: str
) -> None:
    async with provider("functions: {}", tmp_path, provider_data=str(tmp_path / "data")) as running:
        failed = (await push(running, content))[-1]
        assert failed["status"] == "failed"
        assert error in failed["error"]
        assert list((tmp_path / "data" / "bundles").iterdir()) == []


async def test_content_pushed_under_another_name_leaves_the_bundle_that_is_there(tmp_path: Path) -> None:
    content = bundle({"handler.py": "def handle(event, context):\n    return 'hi'\n"})
    async with provider("functions: {}", tmp_path, provider_data=str(tmp_path / "data")) as running:
        assert (await push(running, content))[-1]["status"] == "ready"
        assert "is for 'hello'" in (await push(running, content, "thief"))[-1]["error"]
        assert (await deploy(running, content)).status_code == 202
        assert (await request(await running.port("hello"))).text == "hi"


async def test_a_bundle_over_the_limit_is_refused_declared_or_not(tmp_path: Path) -> None:
    data = str(tmp_path / "data")

    async def pieces() -> Any:
        for _ in range(10):
            yield b"x" * 1000

    async with provider("functions: {}", tmp_path, provider_data=data, max_bundle_bytes="2000") as running:
        for content in (b"x" * 5000, pieces()):
            answer = await running.client.post("/system/bundles?name=hello", content=content)
            assert answer.status_code == 413
            assert "larger than 2000 bytes (max_bundle_bytes)" in answer.text
        bad = await running.client.post("/system/bundles?name=../evil", content=b"x")
        assert bad.status_code == 400
        large = await running.client.post("/system/functions", content=b"{" + b" " * 5_000_000 + b"}")
        assert large.status_code == 413
        assert list((tmp_path / "data" / "bundles").iterdir()) == []


async def test_who_waits_for_an_update_hears_of_the_new_version_or_that_it_does_not_start(tmp_path: Path) -> None:
    good = bundle({"handler.py": "def handle(event, context):\n    return 'one'\n"})
    bad = bundle({"handler.py": "print('starting')\nraise RuntimeError('no key')\n"})
    async with provider("functions: {}", tmp_path, provider_data=str(tmp_path / "data")) as running:
        for content in (good, bad):
            assert (await push(running, content))[-1]["status"] == "ready"
        await deploy(running, good)
        shown = (await running.get("/system/function/hello?wait=30s&for=update")).json()
        assert (shown["availableReplicas"], shown["updatedReplicas"], shown["restarts"]) == (1, 1, 0)
        await deploy(running, bad)
        shown = (await running.get("/system/function/hello?wait=30s&for=update")).json()
        assert (shown["availableReplicas"], shown["updatedReplicas"]) == (1, 0)
        assert shown["restarts"] >= 2
        error = shown["lastError"]
        assert error["message"].startswith("the watchdog ended with code 1 before it was ready:\nstarting\n[error] ")
        assert error["message"].endswith("RuntimeError: no key")
        assert error["instance"].startswith("hello-")
        assert "no key" in (await running.get("/system/logs?name=hello")).text
        assert (await request(await running.port("hello"))).text == "one"
        better = bundle({"handler.py": "def handle(event, context):\n    return 'two'\n"})
        await push(running, better)
        await deploy(running, better)
        shown = (await running.get("/system/function/hello?wait=30s&for=update")).json()
        assert (shown["availableReplicas"], shown["updatedReplicas"], shown["restarts"]) == (1, 1, 0)
        assert (await request(await running.port("hello"))).text == "two"


async def test_bundles_that_no_function_uses_are_removed_after_a_day(tmp_path: Path) -> None:
    used, fresh, old = (bundle({"handler.py": f"def handle(event, context):\n    return {n}\n"}) for n in range(3))
    bundles = tmp_path / "data" / "bundles"
    async with provider("functions: {}", tmp_path, provider_data=str(tmp_path / "data")) as running:
        for content in (used, fresh, old):
            assert (await push(running, content))[-1]["status"] == "ready"
        await deploy(running, used)
    for content in (used, old):
        os.utime(bundles / image_of(content)[-64:] / "bundle.json", (0, 0))
    (bundles / ".upload-half").touch()
    async with provider("functions: {}", tmp_path, provider_data=str(tmp_path / "data")) as running:
        await running.ready("hello")
        assert {path.name for path in bundles.iterdir()} == {image_of(content)[-64:] for content in (used, fresh)}
