"""Commands start where services are started: without a home, without some of the standard streams, as any user.

What is needed is a data folder that can be written. All else that is missing costs at most what it is for; when nothing
can be done without it, one line says what to change, and the exit code is 2.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import httpx
import pytest

from holdfast import sockets
from tests.support.nats import nats_server
from tests.support.serving import HOLDFAST

READY_WITHIN_S = 60.0
NOBODY = 54321
"""A user that has no entry in passwd(5)."""


class Environment(NamedTuple):
    """How a command is started."""

    name: str
    changes: Mapping[str, str] = MappingProxyType({})
    """Of the environment's variables; an empty value removes one."""
    streams: str = ""
    """Redirections of a shell."""
    as_nobody: bool = False


NO_HOME = Environment("no home, no entry in passwd", {"HOME": ""}, as_nobody=True)
NO_STREAMS = Environment("no streams at all", streams="<&- >&- 2>&-")
ENVIRONMENTS = [
    Environment("home is the root folder", {"HOME": "/"}),
    Environment("home cannot be used", {"HOME": "/proc"}),
    Environment("no home variable", {"HOME": ""}),
    NO_HOME,
    Environment("no state folder", {"XDG_STATE_HOME": "/proc/none"}),
    Environment("no folder for temporary files", {"TMPDIR": "/nowhere"}),
    Environment("no input", streams="<&-"),
    Environment("no output", streams=">&-"),
    Environment("no standard error", streams="2>&-"),
    NO_STREAMS,
]


def command(environment: Environment, *arguments: str) -> list[str]:
    """The command line that starts `holdfast` so."""
    as_user: list[str] = []
    if environment.as_nobody:
        # Root's own way to read everything stays: the interpreter may lie in a folder that is closed to others.
        as_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        as_user += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["sh", "-c", f'exec "$0" "$@" {environment.streams}', *as_user, str(HOLDFAST), *arguments]


def environ(environment: Environment, **more: str) -> dict[str, str]:
    changed = {**os.environ, **environment.changes, **more}
    return {name: value for name, value in changed.items() if value or name not in environment.changes}


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that anybody may use; pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="holdfast-test-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=ENVIRONMENTS, ids=lambda environment: environment.name.replace(" ", "-"))
def environment(request: pytest.FixtureRequest) -> Environment:
    found: Environment = request.param
    if found.as_nobody and (os.getuid() != 0 or shutil.which("setpriv") is None):
        pytest.skip("only root can become a user that does not exist")
    return found


@contextlib.asynccontextmanager
async def started(
    environment: Environment, folder: Path, *arguments: str, **variables: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A part that runs; on leaving it must stop in order and have shown no traceback."""
    log = folder / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command(environment, *arguments),
            env=environ(environment, **variables),
            cwd="/",
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
        process.terminate()
        async with asyncio.timeout(60):
            assert await process.wait() == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def answers(process: asyncio.subprocess.Process, url: str, log: Path) -> None:
    """Return once a URL is answered 200."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            assert process.returncode is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def test_serve_starts_where_its_data_folder_can_be_written(environment: Environment, folder: Path) -> None:
    ready = folder / "ready.json"
    arguments = ["serve", "--port", "0", "--metrics-port", "0", "--durability", "os", "--no-auth"]
    arguments += ["--data", str(folder / "data"), "--ready-file", str(ready)]
    async with started(environment, folder, *arguments) as process:
        deadline = time.monotonic() + READY_WITHIN_S
        while not ready.exists():
            assert process.returncode is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            await asyncio.sleep(0.05)
        gateway = json.loads(ready.read_text())["gateway"]
        # What is printed into a stream that is closed must not end in a socket that has its number.
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            answer = await client.post(f"{gateway}/function/echo", content=b"hello")
            assert (answer.status_code, answer.content) == (200, b"hello")
            assert (await client.post(f"{gateway}/async-function/figlet", content=b"hello")).status_code == 202


async def test_each_part_starts_alone(environment: Environment, folder: Path) -> None:
    async with nats_server() as nats:
        provider, gateway, worker = (sockets.unlikely_port() for _ in range(3))
        shared = {"nats_url": nats.url, "functions_provider_url": f"http://127.0.0.1:{provider}"}
        parts = {
            "provider": ({"provider_port": str(provider), "provider_data": str(folder / "provider")}, provider),
            "gateway": ({"gateway_port": "0", "gateway_metrics_port": str(gateway), **shared}, gateway),
            "worker": ({"worker_metrics_port": str(worker), **shared}, worker),
        }
        async with contextlib.AsyncExitStack() as stack:
            for name, (variables, port) in parts.items():
                own = folder / name
                own.mkdir(exist_ok=True)
                own.chmod(0o777)
                process = await stack.enter_async_context(started(environment, own, name, **variables))
                await answers(process, f"http://127.0.0.1:{port}/healthz", own / "log")


async def test_a_watchdog_starts_alone(environment: Environment, folder: Path) -> None:
    port = sockets.unlikely_port()
    async with started(environment, folder, "watchdog", fprocess="cat", port=str(port)) as process:
        await answers(process, f"http://127.0.0.1:{port}/_/health", folder / "log")
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            assert (await client.post(f"http://127.0.0.1:{port}/", content=b"hello")).content == b"hello"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help", 0),
        ("serve --help", 0),
        ("version --short-version", 0),
        ("version -g http://127.0.0.1:1", 0),
        ("completion bash", 0),
        ("list -g http://127.0.0.1:1", 3),
        ("invoke echo -g http://127.0.0.1:1", 3),
        ("calls list -g http://127.0.0.1:1", 3),
        ("nonsense", 2),
    ],
)
def test_commands_run_anywhere(environment: Environment, folder: Path, arguments: str, code: int) -> None:
    log = folder / "log"
    with log.open("wb") as output:
        ended = subprocess.run(
            command(environment, *arguments.split()),
            env=environ(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=60,
            check=False,
        )
    assert ended.returncode == code, log.read_text()
    assert "Traceback" not in log.read_text()
    if not environment.streams:
        assert log.read_text()


@pytest.mark.parametrize(
    "environment", [ENVIRONMENTS[3], ENVIRONMENTS[-1]], ids=["nobody", "no-streams"], indirect=True
)
def test_the_demo_runs_anywhere(environment: Environment, folder: Path) -> None:
    log = folder / "log"
    with log.open("wb") as output:
        ended = subprocess.run(
            command(environment, "demo"),
            env=environ(environment),
            cwd="/",
            stdout=output,
            stderr=output,
            timeout=110,
            check=False,
        )
    assert ended.returncode == 0, log.read_text()


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        ("serve --data /proc/none", {}, "--data='/proc/none' cannot be used: expected a folder that can be written"),
        ("serve", {"XDG_DATA_HOME": "/proc"}, "--data='/proc/holdfast' cannot be used"),
        ("serve --data {folder} --ready-file {folder}/none/r.json", {}, "cannot be used: expected a file in a folder"),
        ("serve --data {folder} --ready-file /proc/r.json", {}, "--ready-file='/proc/r.json' cannot be used"),
        ("provider", {"provider_data": "/proc/none"}, "provider_data='/proc/none' cannot be used"),
        ("login -g http://127.0.0.1:1 --password x", {"OPENFAAS_CONFIG": "/proc"}, "cannot reach the gateway"),
    ],
)
def test_what_cannot_be_done_without_is_named_in_one_message(
    folder: Path, arguments: str, changes: dict[str, str], said: str
) -> None:
    ended = subprocess.run(
        [HOLDFAST, *arguments.format(folder=folder).split()],
        env={**os.environ, **changes},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == (3 if "gateway" in said else 2)
    assert said in ended.stderr
    assert ended.stderr.count("cannot be used") <= 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("environment", [NO_HOME], ids=["no-home"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("serve", "HOME='' cannot be used: expected the user's home folder; or name a folder with --data"),
        ("logout", "HOME='' cannot be used: expected the user's home folder, or in OPENFAAS_CONFIG a folder"),
        ("provider", "provider_data='/.holdfast/provider' cannot be used"),
    ],
)
def test_a_user_without_a_home_is_told_what_to_name_instead(
    environment: Environment, arguments: str, said: str
) -> None:
    ended = subprocess.run(
        command(environment, *arguments.split()),
        env=environ(environment),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_output_that_nobody_reads_to_its_end_ends_a_command_as_it_ends_other_tools(tmp_path: Path) -> None:
    for arguments in ("--help", "serve --help", "completion bash"):
        read_end, write_end = os.pipe()
        os.close(read_end)
        ended = subprocess.run(
            [HOLDFAST, *arguments.split()], stdout=write_end, stderr=subprocess.PIPE, timeout=60, check=False
        )
        os.close(write_end)
        assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_output_for_which_there_is_no_room_fails_a_command_with_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        for arguments in ("--help", "version --short-version", "completion bash"):
            ended = subprocess.run(
                [HOLDFAST, *arguments.split()], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
            )
            assert (ended.returncode, ended.stderr) == (1, b"holdfast: No space left on device\n")


READ_ONLY = """
mount -t tmpfs none "$1" && mount -o remount,ro,bind / && cd / || exit 77
"$2" demo; echo "demo ended with $?"
"$2" serve; echo "serve ended with $?"
TMPDIR="$1" "$2" demo; echo "demo with a folder ended with $?"
"""


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("unshare") is None, reason="only root can mount")
def test_a_read_only_system_is_enough_beside_one_folder(folder: Path) -> None:
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", folder, HOLDFAST],
        env={**environ(NO_HOME), "HOME": "/"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    if ended.returncode in (1, 77) and "demo" not in ended.stdout:
        pytest.skip(f"nothing can be mounted here: {ended.stderr}")
    assert "demo ended with 2" in ended.stdout
    assert "TMPDIR='' cannot be used" in ended.stderr
    assert "serve ended with 2" in ended.stdout
    assert "--data='/.local/share/holdfast' cannot be used" in ended.stderr
    assert "demo with a folder ended with 0" in ended.stdout, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
