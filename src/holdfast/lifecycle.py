"""The life of one part: an event loop, a request to stop, an exit code.

The first SIGTERM or SIGINT asks the part to stop in order; the second ends it at once. What "in order" means is the
part's own affair: it awaits the event it is given.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import uvloop

from holdfast import sockets, telemetry
from holdfast.errors import HoldfastError, SettingError
from holdfast.tally import write_all

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_SECOND_SIGNAL = 130
GARBAGE_AFTER = 50_000
# Objects that could form cycles, made since the last look for garbage. Hot paths make no cycles, yet at the default
# of 700 the looks took 6 % of a busy worker's time.

log = structlog.get_logger()


def run_part(main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run a part until it returns; gives its exit code.

    `main` gets the event that is set when the part should stop. A HoldfastError ends the part with EXIT_FAILED and one
    log line; any other exception is a mistake of ours and is shown whole. Raises SettingError for a setting that could
    only be tried by using it: the command line shows it as it shows those that it refuses when it reads them.
    """

    async def supervised() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _asked_to_stop, number, stop)
        await main(stop)

    failures: list[HoldfastError] = []
    gc.freeze()  # what was imported stays: no look at it again
    gc.set_threshold(GARBAGE_AFTER)
    sockets.allow_many()
    try:
        uvloop.run(supervised())
    except* HoldfastError as group:
        failures = _leaves(group)
    finally:
        write_all()
    for error in failures:
        if isinstance(error, SettingError):
            raise error
        log.error("part failed", error=str(error))
    return EXIT_FAILED if failures else EXIT_OK


def _asked_to_stop(number: signal.Signals, stop: asyncio.Event) -> None:
    if stop.is_set():
        log.warning("second signal, ending at once", signal=number.name)
        telemetry.drain_log()
        os._exit(EXIT_SECOND_SIGNAL)
    log.info("stopping", signal=number.name)
    stop.set()


def _leaves(group: BaseExceptionGroup[HoldfastError]) -> list[HoldfastError]:
    found: list[HoldfastError] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


async def until_stopped(stop: asyncio.Event, *ended: asyncio.Future[None]) -> None:
    """Wait until the part is asked to stop. Raises what a future in `ended` raises, when something it needs is gone."""
    stopping = asyncio.create_task(stop.wait())
    waited: set[asyncio.Future[Any]] = {stopping, *ended}
    try:
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    for future in ended:
        if future.done():
            future.result()
