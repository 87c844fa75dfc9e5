"""Child processes that are owned by whoever started them, and the loop that keeps one running.

A child leads a session and process group of its own, so that a Ctrl-C in the terminal reaches only the supervisor,
which then stops its children in order. On Linux the kernel kills the whole group when the parent ends, even by
`kill -9`: nothing of it sees a pipe end because another part is gone, and takes that for the end of its work. What to
run, and what an exit means for the rest of the system, is left to the caller.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, NoReturn, cast

from holdfast.errors import StartError
from holdfast.unexpected import Work, alone, guarded, set_aside

Stream = Literal["stdout", "stderr"]
DataSink = Callable[[Stream, bytes], None]
"""Called with output as it comes, in pieces of any size."""
LineSink = Callable[[Stream, str], None]
"""Called with each line of output, without its line end, in the order of arrival."""

# A longer line is handed on in pieces: output without line ends must not grow memory.
MAX_LINE_BYTES = 64 * 1024
# How long output may be held open by a process that left the group, after the child itself has ended.
OUTPUT_LINGER_S = 1.0

RESTART_FIRST_PAUSE_S = 0.1
RESTART_LONGEST_PAUSE_S = 10.0
# A process that lived this long did start properly: its next end is a new trouble, not the old one again.
RESTART_RESET_AFTER_S = 10.0

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_PARENT_GONE = 125


class _Lifeline:
    """A pipe from a parent to a child: the kernel kills the child and its group when the parent's end is closed.

    The child, `PR_SET_PDEATHSIG`. It reaches the child alone, and follows the *thread* that forks: children are started
    from the event loop's thread only.

    Its group, the pipe. Whoever has asked for signal-driven input of a descriptor (`O_ASYNC`, `F_SETOWN`, `F_SETSIG` in
    fcntl(2)) is sent the signal when its last writer is gone; here the group is, and the signal is SIGKILL. The end
    that is open in the child is never read, and nothing is written to the other.

    Nothing happens where the kernel cannot do it.
    """

    def __init__(self) -> None:
        self.descriptors: tuple[int, ...] = ()
        """What the child has to inherit."""
        self._held = -1
        if sys.platform == "linux":
            given, self._held = os.pipe()
            self.descriptors = (given,)

    def arrange(self) -> Callable[[], None] | None:
        """What to run between fork and exec (`preexec_fn`): as little as possible."""
        if sys.platform != "linux":
            return None
        prctl = ctypes.CDLL(None).prctl  # resolved here
        parent = os.getpid()
        (given,) = self.descriptors

        def arrange() -> None:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            pid = os.getpid()
            if os.getpgrp() != pid:
                os.setsid()  # one event loop does so before this, the other after
            fcntl.fcntl(given, fcntl.F_SETOWN, -pid)
            fcntl.fcntl(given, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(given, fcntl.F_SETFL, os.O_ASYNC)
            if os.getppid() != parent:  # it ended before the kernel was told
                os._exit(_PARENT_GONE)

        return arrange

    def begun(self) -> None:
        """The child has its end, or never will."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = ()

    def cut(self) -> None:
        """Kill what is left of the group."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the process group that `pid` leads; nothing happens when it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


class Process:
    """A running child, made by `start`. `returncode` is None while it runs, negative when a signal ended it."""

    def __init__(self, pid: int, child: _Child) -> None:
        self.pid = pid
        self._child = child
        self._ended = child.ended

    @property
    def returncode(self) -> int | None:
        """How it ended, None while it runs or its last output is still being read."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """The exit code, once the process has ended and its output is read. Cancelling the wait leaves it running."""
        return await asyncio.shield(self._ended)

    def pause_output(self) -> None:
        """Read no more of its standard output for now: a command that writes faster than its reader takes waits."""
        self._child.pause()

    def resume_output(self) -> None:
        """Go on reading."""
        self._child.resume()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process group."""
        if not self._ended.done():
            signal_group(self.pid, number)

    async def terminate(self, grace_s: float) -> int:
        """SIGTERM to the group, SIGKILL after `grace_s`; the exit code. Cancelled or without grace it kills at once."""
        self.send(signal.SIGTERM if grace_s > 0 else signal.SIGKILL)
        try:
            async with asyncio.timeout(grace_s):
                return await self.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self.wait()
        except asyncio.CancelledError:
            self.send(signal.SIGKILL)
            raise


@asynccontextmanager
async def start(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = None,
    on_data: DataSink | None = None,
    on_line: LineSink | None = None,
    pass_fds: Sequence[int] = (),
    grace_s: float = 10.0,
) -> AsyncIterator[Process]:
    """Run a command as long as the context lasts; leaving it, also by cancellation, ends the command's whole group.

    Its output goes to `on_data` or, cut into lines, to `on_line`; with neither it writes where this process writes.
    `stdin` is a descriptor, such as `whole_input` makes, which is closed here once the command has it; None: nothing
    can be read. Raises StartError when it cannot be started.
    """
    loop = asyncio.get_running_loop()
    cutter = LineCutter(on_line) if on_line is not None else None
    sink = cutter.feed if cutter is not None else on_data
    output = subprocess.PIPE if sink is not None else None
    lifeline: _Lifeline | None = None
    try:
        lifeline = _Lifeline()
        transport, child = await loop.subprocess_exec(
            lambda: _Child(loop, sink, cutter.end if cutter is not None else None),
            *argv,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=output,
            stderr=output,
            env=None if environ is None else dict(environ),
            cwd=cwd,
            pass_fds=(*pass_fds, *lifeline.descriptors),
            start_new_session=True,
            preexec_fn=lifeline.arrange(),
        )
    except BaseException as error:
        if lifeline is not None:
            lifeline.begun()
            lifeline.cut()
        if not isinstance(error, OSError):
            raise
        where = f" in {cwd}" if cwd is not None else ""
        raise StartError(f"{argv[0]} could not be started{where}: {error.strerror or error}") from error
    finally:
        if stdin is not None:
            os.close(stdin)
    lifeline.begun()
    process = Process(transport.get_pid(), child)
    child.belongs_to(process.pid, transport)
    try:
        yield process
    finally:
        child.resume()  # the end of unread output would never be seen
        try:
            await process.terminate(grace_s)
        finally:
            lifeline.cut()


def whole_input(data: bytes) -> int | None:
    """A descriptor to read `data` from, all of which is there before its end can be seen; None for no data.

    A pipe would say "end" as well when whoever fills it is killed half-way. It is memory, as `data` is, and read from
    its beginning. Raises OSError.
    """
    if not data:
        return None
    descriptor = os.memfd_create("input") if sys.platform == "linux" else _unlinked_file()
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]  # one write takes 2 GiB at most
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _unlinked_file() -> int:
    """A file without a name, where the kernel has none in memory."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def restart_pause_s(failures: int) -> float:
    """How long to wait before the next start, after `failures` ends in a row that each came too soon. No I/O."""
    if failures == 0:
        return 0.0
    return min(RESTART_FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16), RESTART_LONGEST_PAUSE_S)


async def supervise(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: LineSink | None = None,
    pass_fds: Sequence[int] = (),
    on_start: Callable[[int], None] | None = None,
    on_refused: Callable[[StartError], None] | None = None,
    on_exit: Callable[[int], None] | None = None,
    after_exit: Callable[[], Awaitable[None]] | None = None,
    grace_s: float = 10.0,
) -> NoReturn:
    """Keep one command running until cancelled, which ends it in order.

    It is started again whenever it ends: at once the first time, then after growing pauses. `on_start(pid)` is called
    after each start, `on_exit(code)` after each end that was not asked for; it may raise to end the supervision.
    `after_exit()` follows and is waited for, so that the next process finds nothing of the one before.
    A start that fails counts as an exit with code 127; `on_refused(error)` hears why. Without it, raises StartError
    when the first start fails. An error that nobody expected counts so too, and is set aside.
    """
    failures = 0
    begun = False
    while True:
        started = time.monotonic()
        try:
            async with start(
                argv, environ=environ, cwd=cwd, on_line=on_line, pass_fds=pass_fds, grace_s=grace_s
            ) as process:
                begun = True
                if on_start is not None:
                    on_start(process.pid)
                code = await process.wait()
        except StartError as error:
            if on_refused is not None:
                on_refused(error)
            elif not begun:
                raise
            code = 127
        except Exception as error:  # noqa: BLE001 - the next start may go well
            set_aside(Work.CHILDREN, error, command=argv[0])
            code = 127
        if on_exit is not None:
            on_exit(code)
        if after_exit is not None:
            await alone(Work.CHILDREN, after_exit, lambda _: None, command=argv[0])
        if time.monotonic() - started >= RESTART_RESET_AFTER_S:
            failures = 0
        await asyncio.sleep(restart_pause_s(failures))
        failures += 1


class LineCutter:
    """Cuts the output of one process into lines."""

    def __init__(self, on_line: LineSink) -> None:
        self._on_line = on_line
        self._partial: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}

    def feed(self, stream: Stream, data: bytes) -> None:
        """Take output as it comes."""
        *lines, rest = (self._partial[stream] + data).split(b"\n")
        for line in lines:
            self._emit(stream, line)
        while len(rest) > MAX_LINE_BYTES:
            self._emit(stream, rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._partial[stream] = rest

    def end(self) -> None:
        """Hand on what had no line end."""
        for stream, rest in self._partial.items():
            if rest:
                self._emit(stream, rest)

    @guarded(Work.CHILDREN)  # a line that is not understood must not end the reading of the others
    def _emit(self, stream: Stream, line: bytes) -> None:
        self._on_line(stream, line.decode(errors="replace").rstrip("\r"))


class _Child(asyncio.SubprocessProtocol):
    """Hands output on and learns of the end: `ended` is set after the last of the output."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sink: DataSink | None, on_output_end: Callable[[], None] | None
    ) -> None:
        self.ended: asyncio.Future[int] = loop.create_future()
        self._loop = loop
        self._sink = sink
        self._on_output_end = on_output_end
        self._pid = 0
        self._transport: asyncio.SubprocessTransport | None = None
        self._exited = False
        self._paused = False
        self._linger: asyncio.TimerHandle | None = None

    def belongs_to(self, pid: int, transport: asyncio.SubprocessTransport) -> None:
        self._pid = pid
        self._transport = transport
        if self._exited:  # it ended before this process heard that it had begun
            self._end_of_leader()

    def pause(self) -> None:
        self._paused = True
        self._stop_linger()
        if (pipe := self._output()) is not None:
            pipe.pause_reading()

    def resume(self) -> None:
        if not self._paused:
            return
        self._paused = False
        if (pipe := self._output()) is not None:
            pipe.resume_reading()
        if self._exited:
            self._begin_linger()

    def _output(self) -> asyncio.ReadTransport | None:
        pipe = self._transport.get_pipe_transport(1) if self._transport is not None else None
        # A cast, for uvloop's transport is one without deriving from the class.
        return cast("asyncio.ReadTransport", pipe) if pipe is not None and not pipe.is_closing() else None

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        assert isinstance(data, bytes)  # noqa: S101 - the transport is a binary one
        if self._sink is not None:
            self._sink("stdout" if fd == 1 else "stderr", data)

    def process_exited(self) -> None:
        self._exited = True
        if self._transport is not None:
            self._end_of_leader()

    def _end_of_leader(self) -> None:
        """The group ends with its leader; whoever left the group cannot hold the output open for long."""
        signal_group(self._pid, signal.SIGKILL)
        if not self._paused:
            self._begin_linger()

    def _begin_linger(self) -> None:
        if self._transport is not None and not self.ended.done():
            self._linger = self._loop.call_later(OUTPUT_LINGER_S, self._transport.close)

    def _stop_linger(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name is the interface's
        self._stop_linger()
        if self._on_output_end is not None:
            self._on_output_end()
        # On the next turn: the transport learns its exit code before or after this call, by loop.
        self._loop.call_soon(self._conclude)

    def _conclude(self) -> None:
        code = None
        if self._transport is not None:
            code = self._transport.get_returncode()
            self._transport.close()
        if not self.ended.done():
            self.ended.set_result(-1 if code is None else code)
