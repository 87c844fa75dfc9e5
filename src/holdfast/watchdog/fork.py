"""A function that is a command: started for each request, the body on its input, its output the answer.

In mode `serializing` the answer is held until the command has ended, because only its exit code tells whether it is
one. In mode `streaming` it goes out as it is written, no faster than the caller takes it, and a command that fails
after its first byte breaks the answer off. Standard error is logged as it comes. A command's whole process group ends
with it, and is killed when its time is over or its caller has gone.
"""

from __future__ import annotations

import asyncio
import errno
import shlex
import shutil
import signal
from collections.abc import Mapping
from datetime import UTC, datetime

from holdfast.errors import SettingError, StartError
from holdfast.headers import RawHeaders
from holdfast.http1.message import header_lines
from holdfast.process import LineCutter, Process, Stream, start, whole_input
from holdfast.settings import WatchdogSettings
from holdfast.unexpected import Work, set_aside
from holdfast.watchdog.call import TEXT, Call
from holdfast.watchdog.environment import request_environment
from holdfast.watchdog.log import EventLog

# As much of standard error as an answer carries: its end, where the reason usually stands.
MOST_STDERR_BYTES = 16 * 1024
DEFAULT_CONTENT_TYPE = b"application/octet-stream"


class ForkedFunction:
    """Runs the command of `settings.process`, a process per call."""

    def __init__(self, settings: WatchdogSettings, environ: Mapping[str, str], log: EventLog) -> None:
        self._settings = settings
        self._environ = environ
        self._log = log
        self._argv = command(settings.process, environ)
        self._streams = settings.mode == "streaming"
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, call: Call) -> None:
        """Begin to run a call."""
        call.task = asyncio.get_running_loop().create_task(self._run(call))
        self._tasks.add(call.task)
        call.task.add_done_callback(self._tasks.discard)
        # Not at the end of _run: a task that is cancelled before its first step never gets there.
        call.task.add_done_callback(lambda _: call.ended())

    def cancel(self, call: Call) -> None:
        """Kill what runs for a call."""
        if call.task is not None:
            call.task.cancel()

    async def close(self) -> None:
        """Kill everything that still runs and wait for its end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, call: Call) -> None:
        await call.still_wanted()
        exchange = call.exchange
        environ = request_environment(
            self._environ,
            method=exchange.method,
            target=exchange.target,
            headers=exchange.headers,
            body_length=len(call.body),
        )
        output = (_StreamedOutput if self._streams else _Output)(call, self._settings, self._log)
        try:
            # No grace: whoever is cancelled here has either had all its time or nobody who waits for it.
            body = _input_of(call)
            async with start(self._argv, environ=environ, stdin=body, on_data=output.take, grace_s=0) as process:
                output.process = process
                code = await process.wait()
            output.ended(code)
        except StartError as error:
            self._log.error("command not started", call_id=call.call_id, error=error)
            call.answer(*_not_started(error))
        except asyncio.CancelledError:
            if not output.overflown:
                raise
            text = f"The function's output is larger than {self._settings.max_output_bytes} bytes (max_output_bytes).\n"
            call.answer(500, TEXT, text.encode())
        except Exception as error:  # noqa: BLE001 - a task's owner must hear of nothing but cancellation
            set_aside(Work.RUNNING, error, call_id=call.call_id)
            call.answer(500, TEXT, b"The watchdog failed on this request; its log says why.\n")


def _input_of(call: Call) -> int | None:
    """A call's body as what a command reads, complete; it is not kept here besides. Raises StartError."""
    try:
        return whole_input(call.take_body())
    except OSError as error:
        raise StartError(f"the body cannot be handed over: {error.strerror or error}") from error


def command(process: str, environ: Mapping[str, str]) -> list[str]:
    """`fprocess` cut into words as a shell would. Raises SettingError when there is no such command."""
    try:
        argv = shlex.split(process)
    except ValueError as error:
        raise SettingError("fprocess", process, f"a command with its arguments ({error})") from error
    if not argv:
        raise SettingError("fprocess", process, "a command with its arguments")
    if shutil.which(argv[0], path=environ.get("PATH")) is None:
        raise SettingError("fprocess", process, f"a command that exists: {argv[0]} is not in PATH or not executable")
    return argv


def _not_started(error: StartError) -> tuple[int, bytes, bytes]:
    """The answer for a command that could not be started."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno == errno.E2BIG:
        # A single variable holds 128 KiB at most, all of them together about 2 MiB (execve(2)).
        return 431, TEXT, b"The headers are too large to be handed to the function as environment variables.\n"
    if isinstance(cause, OSError) and cause.errno in {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}:
        return 503, TEXT + b"Retry-After: 1\r\n", f"{error}\n".encode()
    return 500, TEXT, f"{error}\n".encode()


class _Output:
    """What one run writes, and the answer made of it."""

    process: Process

    def __init__(self, call: Call, settings: WatchdogSettings, log: EventLog) -> None:
        self.overflown = False
        self._call = call
        self._settings = settings
        self._log = log
        self._stdout: list[bytes] = []
        self._size = 0
        self._stderr = b""
        self._lines = LineCutter(self._log_line)

    def take(self, stream: Stream, data: bytes) -> None:
        if stream == "stderr":
            self._stderr = (self._stderr + data)[-MOST_STDERR_BYTES:]
            self._lines.feed(stream, data)
        else:
            self._take_answer(data)

    def _take_answer(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._settings.max_output_bytes:
            self._stdout.clear()
            if not self.overflown and self._call.task is not None:
                self.overflown = True
                self._call.task.cancel()
            return
        self._stdout.append(data)

    def ended(self, code: int) -> None:
        """Answer for a run that has ended by itself."""
        self._lines.end()
        body = b"".join(self._stdout)
        if code == 0:
            self._call.answer(200, header_lines(self._content_type()), body)
            return
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        self._log.error("function failed", call_id=self._call.call_id, exit_code=code)
        if self._settings.combine_output:
            body += self._stderr
        self._call.answer(500, TEXT, body or f"The function {how}.\n".encode())

    def _content_type(self) -> RawHeaders:
        """The setting, else the request's own: OpenFaaS's rule, on which callers of text filters rely."""
        configured = self._settings.content_type.encode()
        value = configured or self._call.exchange.header(b"content-type") or DEFAULT_CONTENT_TYPE
        return [(b"Content-Type", value)]

    def _log_line(self, stream: Stream, line: str) -> None:
        if self._settings.prefix_logs:
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = f"{time} {stream} {self._call.call_id or '-'} {line}"
        self._log.output(line)


class _StreamedOutput(_Output):
    """The answer goes out while it is written; it begins with the first byte."""

    _begun = False

    def _take_answer(self, data: bytes) -> None:
        exchange = self._call.exchange
        if not self._begun:
            if not self._call.stream(header_lines(self._content_type())):
                return
            self._begun = True
            exchange.on_flow(self.process.pause_output, self.process.resume_output)
        exchange.write(data)

    def ended(self, code: int) -> None:
        if not self._begun:
            super().ended(code)
            return
        self._lines.end()
        if code == 0:
            self._call.exchange.end()
            return
        self._log.error("function failed after its answer had begun", call_id=self._call.call_id, exit_code=code)
        self._call.exchange.abort()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
