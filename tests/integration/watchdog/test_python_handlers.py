import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from tests.support.raw_http import request
from tests.support.watchdogs import handler, watchdog

ECHO = """
def handle(event, context):
    return {"statusCode": 201, "body": event.body, "headers": {"Content-Type": "x/y", "X-Two": ["1", "2"]}}
"""


async def test_a_handler_gets_the_request_and_gives_the_answer(tmp_path: Path) -> None:
    body = os.urandom(3_000_000)
    async with watchdog(handler=handler(tmp_path, ECHO)) as running:
        answer = await request(running.port, body=body)
    assert answer.status == 201
    assert answer.body == body
    assert answer.header("Content-Type") == "x/y"
    assert [value for name, value in answer.headers if name == "X-Two"] == ["1", "2"]
    assert float(answer.header("X-Duration-Seconds") or "") > 0


async def test_a_handler_sees_method_target_headers_and_context(tmp_path: Path) -> None:
    text = """
def handle(event, context):
    return {
        "event": [event.method, event.path, event.target, event.query.getlist("a"), event.headers["x-call-id"]],
        "context": [context.hostname, context.function_name, context.namespace, context.call_id],
    }
"""
    async with watchdog(
        handler=handler(tmp_path, text), HOSTNAME="f-1", OPENFAAS_NAME="f", OPENFAAS_NAMESPACE="ns"
    ) as running:
        answer = await request(running.port, "/x%2Fy?a=1&a=%20", method="DELETE", headers=[("X-CALL-ID", "id-1")])
    assert answer.header("Content-Type") == "application/json"
    assert json.loads(answer.body) == {
        "event": ["DELETE", "/x%2Fy", "/x%2Fy?a=1&a=%20", ["1", " "], "id-1"],
        "context": ["f-1", "f", "ns", "id-1"],
    }


async def test_a_classic_handler_gets_text_or_else_bytes(tmp_path: Path) -> None:
    text = "def handle(req):\n    return f'{type(req).__name__} {len(req)}'\n"
    async with watchdog(handler=handler(tmp_path, text), handler_style="classic") as running:
        assert (await request(running.port, body="é".encode())).text == "str 1"
        assert (await request(running.port, body=b"\xff")).text == "bytes 1"
        assert (await request(running.port)).text == "str 0"


async def test_sixty_four_handlers_that_block_run_at_once(tmp_path: Path) -> None:
    text = "import time\ndef handle(event, context):\n    time.sleep(2)\n    return event.body\n"
    async with watchdog(handler=handler(tmp_path, text)) as running:
        begun = time.monotonic()
        answers = await asyncio.gather(*(request(running.port, body=b"%d" % n) for n in range(64)))
        assert time.monotonic() - begun < 30, "one after the other they would take 128 s"
    assert sorted(int(answer.body) for answer in answers) == list(range(64))


async def test_async_handlers_run_on_the_loop(tmp_path: Path) -> None:
    text = """
import asyncio
together = None
async def handle(event, context):
    global together
    together = together or asyncio.Barrier(50)
    async with together:
        return event.body
"""
    # The barrier opens only when all fifty are under way.
    async with watchdog(handler=handler(tmp_path, text)) as running:
        answers = await asyncio.gather(*(request(running.port, body=b"%d" % n) for n in range(50)))
    assert sorted(int(answer.body) for answer in answers) == list(range(50))


async def test_a_handler_that_raises_is_a_500_with_a_line_and_the_traceback_is_logged(tmp_path: Path) -> None:
    text = "def handle(event, context):\n    raise LookupError('no such thing')\n"
    async with watchdog(handler=handler(tmp_path, text)) as running:
        answer = await request(running.port, headers=[("X-Call-Id", "id-2")])
        assert (answer.status, answer.text) == (500, "The function failed: LookupError: no such thing\n")
        await running.logged("call_id=id-2")
        await running.logged("raise LookupError")
        assert (await request(running.port)).status == 500, "it goes on serving"


async def test_the_reason_can_be_kept_out_of_the_answer(tmp_path: Path) -> None:
    text = "def handle(event, context):\n    raise LookupError('password')\n"
    async with watchdog(handler=handler(tmp_path, text), combine_output="false") as running:
        assert (await request(running.port)).text == "The function failed.\n"


@pytest.mark.parametrize(
    "result", ["{1, 2}", "{'statusCode': 99}", "{'body': '', 'headers': {'A': 'x\\r\\nB: y'}}", "exit(0)"]
)
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_what_is_not_an_answer_is_a_500(tmp_path: Path, result: str, kind: str) -> None:
    text = f"{kind} handle(event, context):\n    return {result}\n"
    async with watchdog(handler=handler(tmp_path, text)) as running:
        answer = await request(running.port)
        assert answer.status == 500
        assert answer.text.startswith("The function failed: ")
        assert answer.header("B") is None


async def test_a_handler_that_takes_too_long_is_a_504_and_others_go_on(tmp_path: Path) -> None:
    text = "import time\ndef handle(event, context):\n    time.sleep(float(event.body))\n    return 'done'\n"
    async with watchdog(handler=handler(tmp_path, text), exec_timeout="1s") as running:
        slow, fast = await asyncio.gather(request(running.port, body=b"600"), request(running.port, body=b"0"))
        assert (slow.status, fast.status) == (504, 200)
        assert (await request(running.port, body=b"0")).text == "done"
        await running.logged("a thread cannot be ended")
        running.terminate()
        assert await asyncio.wait_for(running.process.wait(), 20) == 0, "a thread that hangs does not keep it"


async def test_an_async_handler_is_cancelled_when_it_takes_too_long_or_its_caller_leaves(tmp_path: Path) -> None:
    text = """
import asyncio
async def handle(event, context):
    print("begun", event.body, flush=True)
    try:
        await asyncio.sleep(600)
    finally:
        print("cancelled", event.body, flush=True)
"""
    async with watchdog(handler=handler(tmp_path, text), exec_timeout="2s", max_inflight="1") as running:
        assert (await request(running.port, body=b"slow")).status == 504
        await running.logged("cancelled b'slow'")
        call = asyncio.create_task(request(running.port, body=b"left"))
        await running.logged("begun b'left'")
        call.cancel()
        await running.logged("cancelled b'left'")


async def test_what_a_handler_prints_is_logged_when_it_prints_it(tmp_path: Path) -> None:
    text = "import time\ndef handle(event, context):\n    print('at once')\n    time.sleep(600)\n"
    async with watchdog(handler=handler(tmp_path, text), grace_period="100ms") as running:
        call = asyncio.create_task(request(running.port))
        await running.logged("at once")
        call.cancel()


async def test_a_handler_finds_its_folder_its_files_and_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("A = 'plain'")
    (tmp_path / "relative.py").write_text("B = 'relative'")
    (tmp_path / "asyncio.py").write_text("raise RuntimeError('not the library')")
    (tmp_path / "data.txt").write_text("data")
    text = """
import asyncio, plain
from .relative import B
from function import relative
DATA = open("data.txt").read()
def handle(event, context):
    return " ".join([plain.A, B, relative.B, DATA])
"""
    async with watchdog(handler=handler(tmp_path, text), cwd=tmp_path) as running:
        assert (await request(running.port)).text == "plain relative relative data"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def handle(:\n", "SyntaxError"),
        ("raise SystemExit(0)\n", "SystemExit"),
        ("x = 1\n", "has no function handle"),
    ],
)
async def test_a_handler_that_cannot_be_imported_ends_the_watchdog_with_the_reason(
    tmp_path: Path, text: str, message: str
) -> None:
    async with watchdog(ready=False, handler=handler(tmp_path, text)) as running:
        assert await asyncio.wait_for(running.process.wait(), 30) == 1
        await running.logged("function not started")
        await running.logged(message)


async def test_a_folder_without_a_handler_ends_the_watchdog_with_the_reason(tmp_path: Path) -> None:
    async with watchdog(ready=False, handler=str(tmp_path)) as running:
        assert await asyncio.wait_for(running.process.wait(), 30) == 1
        await running.logged("has no handler.py")
