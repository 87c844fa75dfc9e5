"""An error that nobody expected: set aside, counted and logged alike, wherever something has to go on.

A service is made of loops that never end, of timers, and of tasks that serve one call each. One message, one function
or one moment must end none of them. So whatever never ends goes through here: `forever` for loops, `guarded` for
timers and callbacks, `alone` for tasks beside others in a group, `set_aside` for what already has an `except` of its
own. Errors that are expected are dealt with where they come up, and a cancellation passes.

The first error of its kind is logged whole; the same one again, at the same place, once a minute with how often it
came. What counting and logging mean is told by `tell`: telemetry and the watchdog's log each have their own way.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar

AGAIN_S = 60.0
# An error that comes with every message must not fill the disk.
MOST_KINDS = 500
# Kinds of errors that are remembered; beyond, all are forgotten, and said anew.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
# Of a loop whose steps fail one after the other: doubled each time.

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Work(StrEnum):
    """What was going on: the label of the metric, so their number is fixed."""

    ACCEPTING = "accepting calls"
    ANSWERING = "answering requests"
    ASKING = "asking peers"
    AUTOSCALING = "autoscaling"
    BODIES = "sweeping bodies"
    CALLBACKS = "sending callbacks"
    CHILDREN = "watching child processes"
    CONNECTION = "keeping the connection to NATS"
    CONSUMING = "taking calls from NATS"
    COUNTING = "counting"
    DIRECTORY = "looking up functions"
    LANES = "looking after lanes"
    MEMORY = "watching memory"
    MESSAGES = "reading messages of NATS"
    PRESENCE = "announcing the worker"
    PUBLISHING = "publishing to NATS"
    QUEUES = "making queues"
    REPLICAS = "keeping replicas"
    RECORDS = "sweeping records"
    ROOM = "counting what waits"
    RUNNING = "running calls"
    STREAMS = "looking after streams"


class Telling(NamedTuple):
    """How this process tells of an error."""

    add: Callable[[Work], None]
    """Counts one more."""
    log: Callable[[Work, BaseException, int, dict[str, object]], None]
    """Called with those that are logged: what was going on, the error, how often it came since it was logged last
    (0: it is the first of its kind, and shown with its traceback), and what else is known."""


def _print(_work: Work, error: BaseException, _times: int, _about: dict[str, object]) -> None:
    traceback.print_exception(error)


_telling = Telling(lambda _: None, _print)
_seen: dict[tuple[Work, type[BaseException], str], tuple[float, int]] = {}
"""When each kind of error was logged last, and how often it came unsaid since."""


def tell(telling: Telling) -> None:
    """From now on count and log like this."""
    global _telling  # noqa: PLW0603 - one way of telling for the whole process
    _telling = telling


def set_aside(work: Work, error: BaseException, **about: object) -> None:
    """Count an error and log it, unless the same was logged within a minute. Never raises, whatever the log does."""
    try:
        _telling.add(work)
        kind = (work, type(error), _place_of(error))
        now = time.monotonic()
        logged_at, unsaid = _seen.get(kind, (float("-inf"), -1))
        if now - logged_at < AGAIN_S:
            _seen[kind] = (logged_at, unsaid + 1)
            return
        if len(_seen) >= MOST_KINDS:
            _seen.clear()
        _seen[kind] = (now, 0)
        _telling.log(work, error, unsaid + 1, about)
    except Exception:  # noqa: BLE001, S110 - there is nobody left to tell
        pass


def _place_of(error: BaseException) -> str:
    """The line that raised it: two errors of one place are one trouble."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


async def forever(
    work: Work,
    step: Callable[[], Awaitable[object]],
    *,
    until: type[Exception] | tuple[type[Exception], ...] = (),
) -> None:
    """Take one step after the other until cancelled, or until a step raises `until`.

    Any other error of a step is set aside, and the next step follows after a pause that grows while they fail. HOT: a
    step costs 0.2 µs more than in a bare loop.
    """
    pause_s = 0.0
    while True:
        try:
            await step()
        except until:
            return
        except Exception as error:  # noqa: BLE001 - the reason of this module
            set_aside(work, error)
            pause_s = min(max(2 * pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)
        else:
            pause_s = 0.0


async def alone(
    work: Work, do: Callable[[], Awaitable[Result]], otherwise: Callable[[Exception], Result], **about: object
) -> Result:
    """Do one thing beside others in a task group, so that its error is not theirs; `otherwise` is its end then."""
    try:
        return await do()
    except Exception as error:  # noqa: BLE001 - the reason of this module
        set_aside(work, error, **about)
        return otherwise(error)


def guarded(work: Work) -> Callable[[Callable[Parameters, None]], Callable[Parameters, None]]:
    """For a function that a timer or a reader calls: its error is set aside."""

    def decorate(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
        @wraps(function)
        def go_on(*arguments: Parameters.args, **named: Parameters.kwargs) -> None:
            try:
                function(*arguments, **named)
            except Exception as error:  # noqa: BLE001 - the reason of this module
                set_aside(work, error)

        return go_on

    return decorate
