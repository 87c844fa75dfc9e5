"""The watchdog put together: its routes, its limit, its life from start to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple, Protocol

import uvloop

from holdfast import sockets
from holdfast.errors import HoldfastError, SettingError
from holdfast.headers import CALLED_BACK, INSTANCE
from holdfast.http1.exchange import Exchange
from holdfast.http1.limits import Limits
from holdfast.http1.server import serve
from holdfast.settings import LogSettings, WatchdogSettings
from holdfast.watchdog.call import TEXT, Collected, Function, Terms
from holdfast.watchdog.fork import ForkedFunction
from holdfast.watchdog.log import EventLog
from holdfast.watchdog.python_function import PythonFunction, load_handler
from holdfast.watchdog.slots import Slots, teller

_INSTANCE = INSTANCE.lower()
EXIT_FAILED = 1
EXIT_SETTING = 2
EXIT_SECOND_SIGNAL = 130
_CALLED_BACK = CALLED_BACK.lower()
_NOT_HERE = b"A callback may not go round the gateway: name the function as /function/<name>.\n"


class Serves(Protocol):
    """What requests are handed to once they are let in."""

    def begin(self, exchange: Exchange) -> None:
        """A request's head is complete: answer it, and take and free a slot for it."""


class Given(NamedTuple):
    """What a provider tells its watchdog beside the settings."""

    ready_fd: int | None
    """Where it is told that requests are served; None: a line in the log says so."""
    instance: str
    """Which replica this is; empty: nobody's."""


class Watchdog:
    """The HTTP application: answers for its health itself and hands everything else to the function.

    A request that names another `instance` is refused, and nothing runs: its sender took this port for another's. One
    that names none is run.
    """

    def __init__(self, function: Serves, slots: Slots, instance: str) -> None:
        self._begin = function.begin
        self._instance = instance.encode()
        self.proof = b"%b: %b\r\n" % (INSTANCE, self._instance)
        self._slots = slots
        self.stopping = False

    def begin(self, exchange: Exchange) -> None:
        """Called by the HTTP lane once per request, when its head is complete.

        HOT: an echo handler costs 25 µs of processor time per request at 16 connections, 65 µs at one. That a request
        names whom it is for is 0.6 µs of it, mostly to parse the header.
        """
        meant = exchange.header(_INSTANCE)
        if meant is not None:
            if meant != self._instance:
                exchange.respond(421, TEXT, b"This is not the replica that the request is for: nothing was run.\n")
                return
            exchange.prove(self.proof)
        if exchange.target.startswith(b"/_/"):
            path = exchange.target.partition(b"?")[0]
            if path in {b"/_/health", b"/_/ready"}:
                exchange.respond(*self._health(is_ready=path == b"/_/ready"))
                return
        if exchange.header(_CALLED_BACK) is not None:
            exchange.respond(403, TEXT, _NOT_HERE)
            return
        if self._slots.full:
            exchange.respond(*self._too_many())
            return
        self._begin(exchange)

    def _health(self, *, is_ready: bool) -> tuple[int, bytes, bytes]:
        if self.stopping:
            return 503, TEXT, b"Stopping.\n"
        if is_ready and self._slots.full:
            return self._too_many()
        return 200, TEXT, b"OK\n"

    def _too_many(self) -> tuple[int, bytes, bytes]:
        """OpenFaaS's text: clients recognise it."""
        text = f"Concurrent request limit exceeded. Max concurrent requests: {self._slots.most}\n"
        return 429, TEXT, text.encode()


def run(settings: WatchdogSettings, logs: LogSettings) -> int:
    """Serve one function until SIGTERM or Ctrl-C; the exit code.

    Not lifecycle.run_part, whose logging would double the memory of a replica and its time to start.
    """
    log = EventLog(logs)
    log.take_over()
    try:
        first = sockets.inherited(WatchdogSettings.LISTEN_FD) or sockets.listen(
            settings.host, settings.port, purpose="watchdog", option="port"
        )
        local = sockets.inherited(WatchdogSettings.LOCAL_FD)
        listening = [first] if local is None else [first, local]
        for sock in listening:
            sock.set_inheritable(False)
        sockets.allow_many()
        given = Given(_ready_fd(), os.environ.pop(WatchdogSettings.INSTANCE, ""))
        open_function = _function(settings, log)
        return uvloop.run(_main(settings, open_function, listening, given, log))
    except asyncio.CancelledError:
        return 0  # asked to stop before it was ready
    except HoldfastError as error:
        summary, _, rest = str(error).partition("\n")
        trace = rest + "\n" if rest else ""
        log.error("function not started", error=summary, trace=trace)  # noqa: TRY400 - expected: the message says it all
        return EXIT_SETTING if isinstance(error, SettingError) else EXIT_FAILED


def _ready_fd() -> int | None:
    number = os.environ.pop(WatchdogSettings.READY_FD, "")
    if not number:
        return None
    if not number.isdecimal():
        raise SettingError(WatchdogSettings.READY_FD, number, "the number of an open descriptor")
    os.set_inheritable(int(number), False)
    return int(number)


Opened = AbstractAsyncContextManager[Serves]
Open = Callable[[Slots, asyncio.Event], Opened]
"""Makes a function ready on the loop; the event is set when it can serve no more."""


def _function(settings: WatchdogSettings, log: EventLog) -> Open:
    """Get ready whatever can fail before the loop runs; code of the function is imported without a loop."""
    if settings.handler and (settings.process or settings.mode == "static"):
        os.chdir(settings.handler)
    if settings.mode == "static":
        from holdfast.watchdog.static import StaticFolder  # noqa: PLC0415 - the other modes do without email and mimetypes

        return lambda slots, _: nullcontext(StaticFolder(settings.static_path, slots))
    if settings.process and settings.mode == "http":
        return lambda slots, ended: _upstream(settings, slots, ended, log)
    if settings.process:
        forked = ForkedFunction(settings, dict(os.environ), log)
        return lambda slots, _: _collected(settings, slots, lambda _: forked, log)
    if settings.handler:
        handle = load_handler(Path(settings.handler).resolve(), settings.handler_packages)
        return lambda slots, _: _collected(
            settings, slots, lambda loop: PythonFunction(handle, settings, loop, log), log
        )
    raise SettingError(
        "fprocess", "", "a command to start for each request, or in `handler` a folder with a handler.py"
    )


@asynccontextmanager
async def _collected(
    settings: WatchdogSettings, slots: Slots, make: Callable[[asyncio.AbstractEventLoop], Function], log: EventLog
) -> AsyncIterator[Serves]:
    """A function whose calls begin once their bodies are complete."""
    loop = asyncio.get_running_loop()
    function = make(loop)
    terms = Terms(
        function=function,
        slots=slots,
        exec_timeout_s=settings.exec_timeout_s,
        loop=loop,
        log=log,
        debug=settings.write_debug,
    )
    try:
        yield Collected(terms, settings.max_body_bytes)
    finally:
        await function.close()


@asynccontextmanager
async def _upstream(
    settings: WatchdogSettings, slots: Slots, ended: asyncio.Event, log: EventLog
) -> AsyncIterator[Serves]:
    """A function that is a server of its own. Imported here: the other modes do without an HTTP client."""
    from holdfast.watchdog.upstream import upstream  # noqa: PLC0415 - 30 ms and 5 MB

    async with upstream(settings, slots, log) as function:

        async def watch() -> None:
            try:
                log.error(await function.ended())
            finally:
                ended.set()

        watching = asyncio.create_task(watch())
        try:
            yield function
        finally:
            watching.cancel()


async def _main(
    settings: WatchdogSettings,
    open_function: Open,
    listening: list[socket.socket],
    given: Given,
    log: EventLog,
) -> int:
    loop = asyncio.get_running_loop()
    stop, ended = asyncio.Event(), asyncio.Event()
    opening = asyncio.current_task()
    assert opening is not None  # noqa: S101 - this is a coroutine that runs
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _asked_to_stop, stop, opening, log)
    tell = teller(given.ready_fd) if given.ready_fd is not None else None
    slots = Slots(settings.max_inflight, loop, tell)
    async with open_function(slots, ended) as function:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _asked_to_stop, stop, None, log)
        watchdog = Watchdog(function, slots, given.instance)
        async with serve(watchdog, sockets=listening, limits=_limits(settings), proof=watchdog.proof) as server:
            if tell is None:
                log.info("watchdog ready", url=sockets.bound_url(listening[0]))
            else:
                tell(b"ready %d\n" % os.getpid())
            await _either(stop, ended)
            watchdog.stopping = True
            await server.drain(settings.grace_period_s if stop.is_set() else 0.0)
    return 0 if stop.is_set() else EXIT_FAILED


async def _either(*events: asyncio.Event) -> None:
    """Return once one of them is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _limits(settings: WatchdogSettings) -> Limits:
    """Twice what a gateway takes for the head: it adds headers of its own to what it accepted."""
    usual = Limits()
    return Limits(
        max_header_bytes=2 * usual.max_header_bytes,
        max_headers=2 * usual.max_headers,
        max_held_bytes=settings.max_held_bytes,
        body_timeout_s=settings.read_timeout_s,
        write_timeout_s=settings.write_timeout_s,
    )


def _asked_to_stop(stop: asyncio.Event, opening: asyncio.Task[int] | None, log: EventLog) -> None:
    if stop.is_set():
        log.drain()
        os._exit(EXIT_SECOND_SIGNAL)
    stop.set()
    if opening is not None:
        opening.cancel()  # a function that is not ready yet has nothing to finish
