import asyncio
import os
from pathlib import Path

import psutil
import pytest

from tests.support.raw_http import request
from tests.support.watchdogs import python, watchdog


async def gone(pid: int) -> None:
    """Wait for the end of a process that is not our child."""
    try:
        await asyncio.to_thread(psutil.Process(pid).wait, 20)
    except psutil.NoSuchProcess:
        return


async def test_the_body_is_standard_input_and_standard_output_the_answer() -> None:
    async with watchdog(fprocess="tr a-z A-Z", content_type="text/x-loud") as running:
        answer = await request(running.port, body=b"hello")
    assert (answer.status, answer.body) == (200, b"HELLO")
    assert answer.header("Content-Type") == "text/x-loud"
    assert float(answer.header("X-Duration-Seconds") or "") > 0


async def test_without_a_setting_the_answer_has_the_content_type_of_the_request() -> None:
    async with watchdog(fprocess="cat") as running:
        headers = [("Content-Type", "application/x-www-form-urlencoded")]
        assert (await request(running.port, headers=headers)).header("Content-Type") == headers[0][1]
        assert (await request(running.port)).header("Content-Type") == "application/octet-stream"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_the_request_is_in_the_environment_with_its_target_untouched(method: str) -> None:
    async with watchdog(fprocess="env", OWN="value") as running:
        answer = await request(
            running.port,
            "/a%2Fb//../%00?q=%3F&a=1&a=2+3&",
            b"" if method == "GET" else b"abc",
            method=method,
            headers=[("x-CALL-id", "id-1"), ("X-Many", "1"), ("x-many", "2"), ("Proxy", "http://evil"), ("Path", "/x")],
        )
    found = dict(line.split("=", 1) for line in answer.text.splitlines())
    assert found["Http_Method"] == method
    assert found["Http_Path"] == "/a%2Fb//../%00"
    assert found["Http_Query"] == "q=%3F&a=1&a=2+3&"
    assert found["Http_X_Call_Id"] == "id-1"
    assert found["Http_X_Many"] == "1, 2"
    assert found["Http_Host"] == f"127.0.0.1:{running.port}"
    assert found["Http_Content_Length"] == ("0" if method == "GET" else "3")
    assert found["OWN"] == "value"
    assert "Http_Proxy" not in found
    assert not [name for name in found if name.startswith("HOLDFAST")]


async def test_large_bodies_pass_both_ways() -> None:
    body = os.urandom(20_000_000)
    async with watchdog(fprocess="cat") as running:
        answer = await request(running.port, body=body)
    assert answer.body == body


async def test_a_command_need_not_read_its_input() -> None:
    async with watchdog(fprocess="echo done") as running:
        assert (await request(running.port, body=b"x" * 5_000_000)).body == b"done\n"


async def test_a_command_that_fails_is_a_500_with_what_it_wrote() -> None:
    text = "import sys; print('out'); print('the reason', file=sys.stderr); sys.exit(3)"
    async with watchdog(fprocess=python(text)) as running:
        answer = await request(running.port, headers=[("X-Call-Id", "id-3")])
        assert (answer.status, answer.text) == (500, "out\nthe reason\n")
        assert "call_id=id-3" in await running.logged("function failed")
        await running.logged("the reason")


async def test_standard_error_can_be_kept_out_of_the_answer() -> None:
    text = "import sys; print('the reason', file=sys.stderr); sys.exit(3)"
    async with watchdog(fprocess=python(text), combine_output="false") as running:
        answer = await request(running.port)
        assert (answer.status, answer.text) == (500, "The function ended with exit code 3.\n")
        await running.logged("the reason")


async def test_standard_error_of_a_success_is_logged_only() -> None:
    text = "import sys; print('fine'); print('a note', file=sys.stderr)"
    async with watchdog(fprocess=python(text), prefix_logs="true") as running:
        answer = await request(running.port, headers=[("X-Call-Id", "id-4")])
        assert (answer.status, answer.text) == (200, "fine\n")
        assert (await running.logged("a note")).endswith("stderr id-4 a note")


async def test_a_command_killed_by_a_signal_is_a_500_that_names_it() -> None:
    async with watchdog(fprocess="sh -c 'kill -9 $$'") as running:
        assert (await request(running.port)).text == "The function was killed by SIGKILL.\n"


async def test_a_command_that_takes_too_long_is_a_504_and_its_whole_group_is_killed() -> None:
    text = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('grandchild', child.pid, file=sys.stderr, flush=True)\n"
        "time.sleep(600)\n"
    )
    async with watchdog(fprocess=python(text), exec_timeout="4s", max_inflight="1") as running:
        answer = await request(running.port)
        assert answer.status == 504
        assert answer.text == "The function did not finish within 4 s (exec_timeout).\n"
        await gone(int((await running.logged("grandchild")).split()[1]))
        async with asyncio.timeout(20):
            while (await request(running.port, "/_/ready", method="GET")).status != 200:
                pass  # its slot is free once the command has been waited for


async def test_a_command_is_killed_when_its_caller_leaves() -> None:
    text = "import os, sys, time; print('pid', os.getpid(), file=sys.stderr, flush=True); time.sleep(600)"
    async with watchdog(fprocess=python(text)) as running:
        call = asyncio.create_task(request(running.port, headers=[("X-Call-Id", "id-5")]))
        pid = int((await running.logged("pid")).split()[1])
        call.cancel()
        assert "call_id=id-5" in await running.logged("caller left")
        await gone(pid)


async def test_a_background_process_does_not_outlive_its_command_nor_hold_up_the_answer() -> None:
    async with watchdog(fprocess="sh -c 'sleep 600 & echo $!'") as running:
        answer = await request(running.port, timeout_s=20)
        await gone(int(answer.body))


async def test_output_beyond_the_limit_is_a_500_and_the_command_is_killed() -> None:
    async with watchdog(fprocess="cat /dev/zero", max_output_bytes="1000000") as running:
        answer = await request(running.port)
        assert answer.status == 500
        assert answer.text == "The function's output is larger than 1000000 bytes (max_output_bytes).\n"
        assert running.children() == []


async def test_a_body_over_the_limit_is_refused_before_the_command_starts() -> None:
    async with watchdog(fprocess="sh -c 'echo started >&2'", max_body_bytes="10") as running:
        assert (await request(running.port, body=b"x" * 11)).status == 413
        assert (await request(running.port, body=b"x" * 10)).status == 200
        await running.logged("started")
        assert running.lines.count("started") == 1


async def test_headers_that_fit_no_environment_are_a_431() -> None:
    async with watchdog(fprocess="env") as running:
        answer = await request(running.port, headers=[("X-Big", "x" * 140_000)])
    assert answer.status == 431
    assert "environment variables" in answer.text


async def test_many_commands_run_at_once() -> None:
    async with watchdog(fprocess="sh -c 'cat; sleep 1'") as running:
        answers = await asyncio.gather(*(request(running.port, body=b"%d" % n) for n in range(20)))
    assert sorted(int(answer.body) for answer in answers) == list(range(20))


async def test_a_command_runs_in_the_watchdogs_folder(tmp_path: Path) -> None:
    async with watchdog(fprocess="pwd", cwd=tmp_path) as running:
        assert (await request(running.port)).text == f"{tmp_path}\n"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"fprocess": "no-such-command -x"}, "a command that exists: no-such-command is not in PATH"),
        ({"fprocess": "echo 'open"}, "No closing quotation"),
        ({}, "a command to start for each request, or in `handler` a folder with a handler.py"),
        ({"fprocess": "cat", "exec_timeout": "soon"}, "exec_timeout='soon' cannot be used"),
    ],
)
async def test_a_watchdog_that_cannot_run_its_function_ends_with_a_reason(
    environ: dict[str, str], message: str
) -> None:
    async with watchdog(ready=False, cwd=None, at=None, **environ) as running:
        assert await asyncio.wait_for(running.process.wait(), 30) > 0
        await running.logged(message)
