"""A function that is Python code in this process: handle(event, context), or the classic handle(req).

The module is loaded once. A plain handler runs on a thread, so that it may block; an `async def` runs on the event
loop. What it returns becomes the answer in result.py.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import site
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.errors import StartError
from holdfast.settings import WatchdogSettings
from holdfast.unexpected import Work, guarded
from holdfast.watchdog.call import TEXT, Call
from holdfast.watchdog.event import Context, Event
from holdfast.watchdog.log import EventLog
from holdfast.watchdog.result import answer_of
from holdfast.watchdog.threads import Threads

Handle = Callable[..., Any]

# More blocking calls at once than this wait for a thread. max_inflight, when it is set, is the number instead.
MOST_THREADS = 1024


class _Answer(NamedTuple):
    status: int
    headers: bytes
    body: bytes
    trace: str = ""
    """The traceback to log, when the handler raised."""


def load_handler(folder: Path, packages: str = "") -> Handle:
    """Import `handler.py` of a folder and give its `handle`. Raises StartError, which holds the traceback.

    `packages` is a folder of installed libraries. They come before those of the Python that runs Holdfast; what the
    watchdog itself has loaded already is not loaded anew.

    The folder becomes the working directory and the first place for imports. As in OpenFaaS's templates the module is
    `function.handler`, so that `from .other import x` works too.
    """
    if not (folder / "handler.py").is_file():
        raise StartError(f"{folder} has no handler.py")
    os.chdir(folder)
    if packages:
        _add_packages(packages)
    sys.path.insert(0, str(folder))
    package = types.ModuleType("function")
    package.__path__ = [str(folder)]
    sys.modules["function"] = package
    try:
        module = importlib.import_module("function.handler")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise StartError(f"{folder / 'handler.py'} cannot be imported:\n{_own_trace(error)}") from error
    handle = getattr(module, "handle", None)
    if not callable(handle):
        raise StartError(f"{folder / 'handler.py'} has no function handle")
    found: Handle = handle
    return found


def _add_packages(folder: str) -> None:
    """Put installed libraries first, with the paths that some of them add by .pth files."""
    before = len(sys.path)
    site.addsitedir(folder)
    added = sys.path[before:]
    sys.path[:] = added + sys.path[:before]


def _own_trace(error: BaseException) -> str:
    """The traceback from the handler's file on, without ours and the import machinery's."""
    own = error.__traceback__
    while own is not None and not own.tb_frame.f_code.co_filename.endswith("handler.py"):
        own = own.tb_next
    if own is None:
        return "".join(traceback.format_exception_only(error)).rstrip()
    return "".join(traceback.format_exception(type(error), error, own)).rstrip()


class PythonFunction:
    """Runs a handler. `style` is `http` or `classic`."""

    def __init__(
        self, handle: Handle, settings: WatchdogSettings, loop: asyncio.AbstractEventLoop, log: EventLog
    ) -> None:
        self._handle = handle
        self._classic = settings.handler_style == "classic"
        self._shows_errors = settings.combine_output
        self._log = log
        self._loop = loop
        self._hostname = os.environ.get("HOSTNAME", "localhost")
        self._name = os.environ.get("OPENFAAS_NAME", "")
        self._namespace = os.environ.get("OPENFAAS_NAMESPACE", "")
        self._asynchronous = inspect.iscoroutinefunction(handle)
        self._threads = Threads(loop, self._work, self._done, settings.max_inflight or MOST_THREADS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: set[Call] = set()
        """Calls whose callers are looked for once more."""

    def start(self, call: Call) -> None:
        """Begin to run a call."""
        if not self._asynchronous:
            self._threads.submit(call)
            return
        call.task = self._loop.create_task(self._run(call))
        self._tasks.add(call.task)
        call.task.add_done_callback(self._tasks.discard)
        # Not at the end of _run: a task that is cancelled before its first step never gets there.
        call.task.add_done_callback(lambda _: call.ended())

    def cancel(self, call: Call) -> None:
        """Cancel an async handler. One on a thread runs on: Python cannot end a thread."""
        if call.task is not None:
            call.task.cancel()
        elif call in self._looking:
            self._looking.discard(call)
            call.ended()
        elif call.runs:
            self._log.warning("handler runs on, a thread cannot be ended", call_id=call.call_id)

    async def close(self) -> None:
        """Cancel the async handlers and wait for their end; threads end with the process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _work(self, call: Call) -> _Answer | None:
        """On a thread. None: not run, as nobody waits for it any more, or nobody knows whether somebody does."""
        if call.exchange.over or not call.looked_for():
            return None
        call.runs = True
        try:
            return _Answer(*answer_of(self._handle(*self._arguments(call))))
        except BaseException as error:  # noqa: BLE001 - sys.exit() in a handler ends the call, not the thread
            return self._failed(error)

    async def _run(self, call: Call) -> None:
        """On the loop."""
        await call.still_wanted()
        try:
            answer = _Answer(*answer_of(await self._handle(*self._arguments(call))))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            answer = self._failed(error)
        self._answer(call, answer)

    def _arguments(self, call: Call) -> tuple[Any, ...]:
        if self._classic:
            # A body that is text arrives as text, as OpenFaaS's classic template has it; any other as bytes.
            try:
                return (call.body.decode(),)
            except UnicodeDecodeError:
                return (call.body,)
        exchange = call.exchange
        event = Event(exchange.method, exchange.target, exchange.headers, call.body)
        return event, Context(self._hostname, self._name, self._namespace, call.call_id)

    def _done(self, call: Call, answer: _Answer | None) -> None:
        if answer is not None:
            self._answer(call, answer)
        elif not call.exchange.over:
            self._looking.add(call)
            call.look_again(lambda: self._submit_again(call))
            return
        call.ended()

    def _submit_again(self, call: Call) -> None:
        self._looking.discard(call)
        self._threads.submit(call)

    @guarded(Work.ANSWERING)
    def _answer(self, call: Call, answer: _Answer) -> None:
        if answer.trace:
            self._log.error("handler failed", call_id=call.call_id, trace=answer.trace)
        call.answer(answer.status, answer.headers, answer.body)

    def _failed(self, error: BaseException) -> _Answer:
        summary = "".join(traceback.format_exception_only(error)).strip()
        text = f"The function failed: {summary}\n" if self._shows_errors else "The function failed.\n"
        return _Answer(500, TEXT, text.encode(errors="replace"), _own_trace(error) + "\n")
