"""The command line against a real `holdfast serve`, and the commands of the documentation as they stand there."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyfiglet
import pytest

from holdfast.demo import Receiver
from tests.acceptance.cli.conftest import Holdfast, Server
from tests.docs.pages import PAGES, Block, blocks

BANNER = pyfiglet.figlet_format("Hi").rstrip()


def test_the_documented_call_prints_an_id_and_calls_back_with_it(user: Holdfast) -> None:
    with Receiver() as receiver:
        ended = user("invoke", "figlet", "-H", f"X-Callback-Url: {receiver.url}", stdin=b"Hi\n", name="faas")
        assert ended.code == 0, ended.err
        callback = receiver.wait()
    assert callback.headers["x-call-id"] == ended.out.decode().strip()
    assert callback.headers["x-function-status"] == "200"
    assert callback.body.decode().rstrip() == BANNER


def test_a_synchronous_call_prints_the_functions_answer(user: Holdfast) -> None:
    assert user("invoke", "figlet", stdin=b"Hi").out.decode().rstrip() == BANNER
    body = bytes(range(256)) * 100
    assert user("invoke", "echo", stdin=body).out == body


def test_a_call_is_waited_for_shown_and_its_result_printed(user: Holdfast) -> None:
    waited = user("invoke", "--async", "--wait", "figlet", stdin=b"Hi")
    assert (waited.code, waited.out.decode().rstrip()) == (0, BANNER), waited.err
    call = user("invoke", "-a", "figlet", stdin=b"Hi").out.decode().strip()
    assert user("calls", "wait", call, "--timeout", "30s").code == 0
    assert json.loads(user("calls", "show", call, "-o", "json").out)["status"] == "succeeded"
    assert user("calls", "result", call).out.decode().rstrip() == BANNER
    assert user("calls", "tail", call).lines[-1].startswith("succeeded")
    assert user("calls", "cancel", call).code == 6


def test_a_call_that_fails_exits_as_the_synchronous_call_does(user: Holdfast) -> None:
    failed = user("invoke", "-a", "--wait", "chaos", "--query", "status=404", "--query", "body=no page")
    assert (failed.code, failed.out.strip()) == (6, b"no page"), failed.err


def test_a_call_that_is_cancelled_ends_the_wait_for_it(user: Holdfast) -> None:
    call = user("invoke", "-a", "figlet", "-H", "X-Delay: 10m", stdin=b"Hi").out.decode().strip()
    assert user("calls", "cancel", call).code == 0
    assert user("calls", "wait", call, "--timeout", "30s").code == 7


def test_the_user_who_runs_the_server_needs_no_login(user: Holdfast, server: Server) -> None:
    for gateway in (server.gateway, f"localhost:{server.port}"):
        ended = user("list", "-q", "-g", gateway)
        assert ended.code == 0, ended.err
        assert ended.lines == ["chaos", "echo", "env", "figlet", "sleep"]


def test_another_user_is_asked_for_a_password(holdfast: Holdfast, server: Server) -> None:
    ended = holdfast("list", "-g", server.gateway)
    assert ended.code == 4
    assert "OPENFAAS_PASSWORD" in ended.err


def test_a_function_is_described_with_its_routes(user: Holdfast, server: Server) -> None:
    text = user("describe", "figlet").out.decode()
    assert f"{server.gateway}/async-function/figlet.openfaas-fn" in text
    assert "1 of 1 ready" in text


def test_what_a_function_writes_is_in_its_logs(user: Holdfast) -> None:
    user("invoke", "chaos", "--query", "status=200")
    ended = user("logs", "chaos")
    assert ended.code == 0, ended.err


def test_a_function_that_fails_and_one_that_does_not_exist_are_told_apart(user: Holdfast) -> None:
    failing = user("invoke", "chaos", "--query", "status=503", "--query", "body=busy")
    assert (failing.code, failing.out.strip()) == (6, b"busy")
    own = user("invoke", "chaos", "--query", "status=404", "--query", "body=no page")
    assert (own.code, own.out.strip()) == (6, b"no page")
    for mode in ([], ["-a"]):
        unknown = user("invoke", "figlett", *mode)
        assert (unknown.code, unknown.out) == (5, b"")
        assert "Did you mean figlet?" in unknown.err


def test_an_unusable_callback_url_is_refused_with_the_gateways_reason(user: Holdfast) -> None:
    ended = user("invoke", "figlet", "-H", "X-Callback-Url: mailto:me@example.com")
    assert ended.code == 6
    assert "400 X-Callback-Url" in ended.err


def test_version_tells_the_servers(user: Holdfast, server: Server) -> None:
    assert f"at {server.gateway}" in user("version").out.decode()


RUNNABLE: list[Block] = [block for block in blocks("sh") if block.runnable]


def test_the_readme_and_the_quickstart_have_commands_that_are_run_here() -> None:
    assert {block.page for block in RUNNABLE} == {page for page in PAGES if page.name in {"README.md", "quickstart.md"}}


@pytest.mark.parametrize("block", RUNNABLE, ids=lambda block: block.place)
def test_commands_of_the_documentation_work_as_they_stand_there(block: Block, user: Holdfast, server: Server) -> None:
    if "curl" in block.text and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with Receiver() as receiver:
        script = block.text.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
        script = re.sub(r"http://127\.0\.0\.1:8888", receiver.url, script).replace("curl ", "curl --fail-with-body ")
        path = f"{Path(sys.executable).parent}:{user.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env={**user.environ, "PATH": path},
            cwd=user.home,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        if receiver.url in script:
            assert receiver.wait().headers["x-call-id"] in done.stdout.decode()


def test_a_server_on_a_port_in_use_says_which_option_to_change(user: Holdfast, server: Server, tmp_path: Path) -> None:
    ended = user("serve", "--port", str(server.port), "--metrics-port", "0", "--data", str(tmp_path / "data"))
    assert ended.code == 1
    assert "--port" in ended.err
    assert str(server.port) in ended.err
