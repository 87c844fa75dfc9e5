import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from holdfast.errors import StartError
from holdfast.process import MAX_LINE_BYTES, restart_pause_s, start, supervise, whole_input

PYTHON = sys.executable

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, None]], None]


def script(text: str) -> list[str]:
    return [PYTHON, "-c", text]


class Lines:
    """Collects output and wakes whoever waits for a certain line."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def __call__(self, stream: str, line: str) -> None:
        self.seen.append((stream, line))
        self._changed.set()

    async def wait_for(self, text: str) -> str:
        async with asyncio.timeout(20):
            while True:
                for _, line in self.seen:
                    if line.startswith(text):
                        return line
                self._changed.clear()
                await self._changed.wait()


def gone(pid: int, within_s: float = 10) -> bool:
    """Whether a process, of whatever parent, ends in time (a zombie has ended)."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        process.wait(within_s)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


@LOOPS
def test_output_arrives_line_by_line_and_the_exit_code_after_it(run: Run) -> None:
    async def scenario() -> None:
        lines = Lines()
        text = "import sys; print('one'); print('two', file=sys.stderr); print('no end', end=''); sys.exit(3)"
        async with start(script(text), on_line=lines) as process:
            async with asyncio.timeout(20):
                assert await process.wait() == 3
            assert sorted(lines.seen) == [("stderr", "two"), ("stdout", "no end"), ("stdout", "one")]
            assert process.returncode == 3

    run(scenario())


@LOOPS
def test_large_input_and_output_pass_at_the_same_time(run: Run) -> None:
    async def scenario() -> None:
        size = 20_000_000
        received = 0

        def count(stream: str, data: bytes) -> None:
            nonlocal received
            received += len(data)

        async with asyncio.timeout(60), start(["cat"], stdin=whole_input(b"x" * size), on_data=count) as process:
            assert await process.wait() == 0
        assert received == size

    run(scenario())


@LOOPS
@pytest.mark.parametrize("size", [0, 5_000_000])
def test_a_command_that_does_not_read_its_input_just_ends(run: Run, size: int) -> None:
    async def scenario() -> None:
        body = whole_input(b"x" * size)
        async with asyncio.timeout(20), start(["true"], stdin=body, on_data=lambda *_: None) as process:
            assert await process.wait() == 0

    run(scenario())


def test_an_endless_line_is_handed_on_in_pieces() -> None:
    async def scenario() -> None:
        lines = Lines()
        async with start(script(f"print('x' * {MAX_LINE_BYTES * 3 + 5})"), on_line=lines) as process:
            await process.wait()
        assert "".join(line for _, line in lines.seen) == "x" * (MAX_LINE_BYTES * 3 + 5)
        assert max(len(line) for _, line in lines.seen) <= MAX_LINE_BYTES * 2

    asyncio.run(scenario())


@LOOPS
def test_terminate_asks_first_and_kills_the_whole_group_after_the_grace_time(run: Run) -> None:
    async def scenario() -> None:
        lines = Lines()
        stubborn = (
            "import signal, subprocess, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time, signal\\n"
            'signal.signal(signal.SIGTERM, signal.SIG_IGN); print("up", flush=True); time.sleep(600)\'])\n'
            "print('child', child.pid, flush=True)\n"
            "while True: time.sleep(600)\n"
        )
        async with start(script(stubborn), on_line=lines) as process:
            child = int((await lines.wait_for("child")).split()[1])
            await lines.wait_for("up")
            assert await process.terminate(0.3) == -signal.SIGKILL
        assert ("stdout", "asked") in lines.seen
        assert gone(child)

    run(scenario())


def test_cancelling_the_owner_ends_the_child_in_order() -> None:
    async def scenario() -> None:
        lines = Lines()
        polite = (
            "import signal, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))\n"
            "print('up', flush=True)\n"
            "while True: time.sleep(600)\n"
        )

        async def own() -> None:
            async with start(script(polite), on_line=lines) as process:
                await process.wait()

        task = asyncio.create_task(own())
        await lines.wait_for("up")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ("stdout", "bye") in lines.seen

    asyncio.run(scenario())


def test_a_background_process_that_left_the_group_does_not_hold_up_the_end() -> None:
    async def scenario() -> None:
        lines = Lines()
        text = (
            "import subprocess, sys\n"
            "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
            "print('daemon', p.pid, flush=True)"
        )
        daemon = 0
        try:
            async with asyncio.timeout(20), start(script(text), on_line=lines) as process:
                assert await process.wait() == 0
                daemon = int((await lines.wait_for("daemon")).split()[1])
        finally:
            os.kill(daemon, signal.SIGKILL)

    asyncio.run(scenario())


@LOOPS
def test_a_command_that_does_not_exist_is_a_start_error_that_names_it(run: Run) -> None:
    async def scenario() -> None:
        with pytest.raises(StartError, match="no-such-command could not be started"):
            async with start(["no-such-command"]):
                pass

    run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@LOOPS
def test_a_child_dies_with_its_parent_even_by_kill_9(run: Run) -> None:
    loop = "asyncio" if run is asyncio.run else "uvloop"
    parent_text = (
        f"import asyncio, {loop}, sys\n"
        "from holdfast.process import start\n"
        "async def main():\n"
        "    async with start([sys.executable, '-c', 'import time; time.sleep(600)']) as process:\n"
        "        print(process.pid, flush=True)\n"
        "        await process.wait()\n"
        f"{loop}.run(main())\n"
    )
    with subprocess.Popen(script(parent_text), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.kill()
        parent.wait()
        assert gone(child)


def test_a_child_leads_its_own_session_so_that_ctrl_c_reaches_only_the_supervisor() -> None:
    async def scenario() -> None:
        lines = Lines()
        async with start(script("import os; print(os.getsid(0) == os.getpid())"), on_line=lines) as process:
            await process.wait()
        assert lines.seen == [("stdout", "True")]

    asyncio.run(scenario())


def test_pauses_between_restarts_grow_from_nothing_to_ten_seconds() -> None:
    pauses = [restart_pause_s(failures) for failures in range(10)]
    assert pauses == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert restart_pause_s(10_000) == 10


@LOOPS
def test_a_supervised_process_that_is_killed_is_running_again_at_once(run: Run) -> None:
    async def scenario() -> None:
        pids: asyncio.Queue[int] = asyncio.Queue()
        codes: list[int] = []
        task = asyncio.create_task(
            supervise(script("import time; time.sleep(600)"), on_start=pids.put_nowait, on_exit=codes.append, grace_s=5)
        )
        first = await asyncio.wait_for(pids.get(), 20)
        killed = time.monotonic()
        os.kill(first, signal.SIGKILL)
        second = await asyncio.wait_for(pids.get(), 20)
        assert time.monotonic() - killed < 5
        assert second != first
        assert codes == [-signal.SIGKILL]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gone(second)
        assert codes == [-signal.SIGKILL], "an end that was asked for is not reported"

    run(scenario())


def test_supervision_ends_when_a_hook_raises() -> None:
    async def scenario() -> None:
        def refuse(code: int) -> None:
            raise StartError(f"it ended with {code}")

        with pytest.raises(StartError, match="it ended with 7"):
            await asyncio.wait_for(supervise(script("raise SystemExit(7)"), on_exit=refuse), 20)

    asyncio.run(scenario())


def test_a_first_start_that_fails_is_tried_again_where_somebody_hears_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        command = tmp_path / "command"
        refusals: list[str] = []
        pids: asyncio.Queue[int] = asyncio.Queue()

        def refused(error: StartError) -> None:
            refusals.append(str(error))
            command.write_text("#!/bin/sh\nexec sleep 600\n")
            command.chmod(0o755)

        task = asyncio.create_task(supervise([str(command)], on_refused=refused, on_start=pids.put_nowait))
        await asyncio.wait_for(pids.get(), 20)
        assert len(refusals) == 1
        assert "could not be started: No such file or directory" in refusals[0]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_a_later_start_that_fails_counts_as_an_exit(tmp_path: Path) -> None:
    async def scenario() -> None:
        command = tmp_path / "command"
        command.write_text("#!/bin/sh\nexit 0\n")
        command.chmod(0o755)
        codes: asyncio.Queue[int] = asyncio.Queue()

        def vanish(code: int) -> None:
            command.unlink(missing_ok=True)
            codes.put_nowait(code)

        task = asyncio.create_task(supervise([str(command)], on_exit=vanish))
        assert [await asyncio.wait_for(codes.get(), 20) for _ in range(3)] == [0, 127, 127]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


@LOOPS
def test_an_error_of_whoever_watches_a_process_does_not_end_its_supervision(run: Run) -> None:
    async def story() -> None:
        pids: list[int] = []
        codes: list[int] = []
        again = asyncio.Event()

        def on_start(pid: int) -> None:
            pids.append(pid)
            if len(pids) == 1:
                raise KeyError("a mistake at the first start")
            again.set()

        async def after_exit() -> None:
            raise OSError("a mistake after each exit")

        def on_line(_stream: str, line: str) -> None:
            raise ValueError(line)

        task = asyncio.create_task(
            supervise(
                script("print('x', flush=True); import time; time.sleep(600)"),
                on_start=on_start,
                on_line=on_line,
                on_exit=codes.append,
                after_exit=after_exit,
                grace_s=0,
            )
        )
        async with asyncio.timeout(20):
            await again.wait()
        assert codes == [127]
        assert psutil.pid_exists(pids[1])
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])

    run(story())
