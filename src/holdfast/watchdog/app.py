"""The watchdog put together: its routes, its limit, its life from start to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path

import uvloop

from holdfast import sockets
from holdfast.errors import HoldfastError, SettingError
from holdfast.http1.exchange import Exchange
from holdfast.http1.limits import Limits
from holdfast.http1.server import serve
from holdfast.settings import LogSettings, WatchdogSettings
from holdfast.watchdog.call import TEXT, Call, Function, Slots, Terms
from holdfast.watchdog.fork import ForkedFunction
from holdfast.watchdog.log import EventLog
from holdfast.watchdog.python_function import PythonFunction, load_handler

EXIT_FAILED = 1
EXIT_SECOND_SIGNAL = 130


class Watchdog:
    """The HTTP application: answers for its health itself and hands everything else to the function."""

    def __init__(self, terms: Terms, max_body_bytes: int) -> None:
        self._terms = terms
        self._slots = terms.slots
        self._max_body_bytes = max_body_bytes
        self.stopping = False

    def begin(self, exchange: Exchange) -> None:
        """Called by the HTTP lane once per request, when its head is complete.

        HOT: an echo handler costs 25 µs of processor time per request at 16 connections, 65 µs at one.
        """
        if exchange.target.startswith(b"/_/"):
            path = exchange.target.partition(b"?")[0]
            if path in {b"/_/health", b"/_/ready"}:
                exchange.respond(*self._health(is_ready=path == b"/_/ready"))
                return
        if self._slots.full:
            exchange.respond(*self._too_many())
            return
        exchange.collect(self._max_body_bytes, Call(exchange, self._terms).begin)

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
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what a handler prints is logged when it is printed
    try:
        listening = sockets.inherited(WatchdogSettings.LISTEN_FD) or sockets.listen(
            settings.host, settings.port, purpose="watchdog", option="port"
        )
        listening.set_inheritable(False)
        ready_fd = _ready_fd()
        make = _function(settings, log)
        return uvloop.run(_main(settings, make, listening, ready_fd, log))
    except HoldfastError as error:
        first, _, rest = str(error).partition("\n")
        trace = rest + "\n" if rest else ""
        log.error("function not started", error=first, trace=trace)  # noqa: TRY400 - expected: the message says it all
        return EXIT_FAILED


def _ready_fd() -> int | None:
    number = os.environ.pop(WatchdogSettings.READY_FD, "")
    if not number:
        return None
    if not number.isdecimal():
        raise SettingError(WatchdogSettings.READY_FD, number, "the number of an open descriptor")
    os.set_inheritable(int(number), False)
    return int(number)


def _function(settings: WatchdogSettings, log: EventLog) -> Callable[[asyncio.AbstractEventLoop], Function]:
    """Get ready whatever can fail before the loop runs; code of the function is imported without a loop."""
    if settings.process:
        if settings.handler:
            os.chdir(settings.handler)
        forked = ForkedFunction(settings, dict(os.environ), log)
        return lambda _: forked
    if settings.handler:
        handle = load_handler(Path(settings.handler).resolve())
        return lambda loop: PythonFunction(handle, settings, loop, log)
    raise SettingError(
        "fprocess", "", "a command to start for each request, or in `handler` a folder with a handler.py"
    )


async def _main(
    settings: WatchdogSettings,
    make: Callable[[asyncio.AbstractEventLoop], Function],
    listening: socket.socket,
    ready_fd: int | None,
    log: EventLog,
) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _asked_to_stop, stop)
    function = make(loop)
    terms = Terms(
        function=function,
        slots=Slots(settings.max_inflight),
        exec_timeout_s=settings.exec_timeout_s,
        loop=loop,
        log=log,
        debug=settings.write_debug,
    )
    watchdog = Watchdog(terms, settings.max_body_bytes)
    async with serve(watchdog, sockets=[listening], limits=_limits(settings)) as server:
        if ready_fd is None:
            log.info("watchdog ready", url=sockets.url_of(listening))
        else:
            os.write(ready_fd, b"ready %d\n" % os.getpid())
            os.close(ready_fd)
        await stop.wait()
        watchdog.stopping = True
        await server.drain(settings.grace_period_s)
        await function.close()
    return 0


def _limits(settings: WatchdogSettings) -> Limits:
    """Twice what a gateway takes for the head: it adds headers of its own to what it accepted."""
    usual = Limits()
    return Limits(
        max_header_bytes=2 * usual.max_header_bytes,
        max_headers=2 * usual.max_headers,
        body_timeout_s=settings.read_timeout_s,
        write_timeout_s=settings.write_timeout_s,
    )


def _asked_to_stop(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(EXIT_SECOND_SIGNAL)
    stop.set()
