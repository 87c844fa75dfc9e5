"""One request on its way through a function: its deadline, its answer, its slot.

Which function runs it and how is the function's affair (fork.py, python_function.py). That nothing is run for nobody is
decided here: before a run begins its caller is looked for, and once more when it has had to wait for its beginning.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from holdfast.http1.exchange import Exchange
from holdfast.unexpected import Work, guarded
from holdfast.watchdog.log import EventLog
from holdfast.watchdog.slots import Slots

LOOKED_FOR_S = 0.25
# A caller that was there so shortly before still is, as far as anybody was told: a worker that cancels a call waits
# longer for a function that does not hear it, before it is said to be cancelled (HEARD_WITHIN_S of worker/attempt.py).

TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"


class Function(Protocol):
    """What runs calls."""

    def start(self, call: Call) -> None:
        """Begin to run a call. `call.answer` and `call.ended` must follow, each once, `ended` last.

        A run that does not begin within this call looks for the caller again, right before it does.
        """

    def cancel(self, call: Call) -> None:
        """Nobody waits for the answer any more: end the run, if that is possible. `call.ended` still must follow."""

    async def close(self) -> None:
        """End everything that still runs."""


class Collected:
    """Has each request's body collected before its call begins."""

    def __init__(self, terms: Terms, max_body_bytes: int) -> None:
        self._terms = terms
        self._max_body_bytes = max_body_bytes

    def begin(self, exchange: Exchange) -> None:
        """A request's head is complete."""
        exchange.collect(self._max_body_bytes, Call(exchange, self._terms).begin)


@dataclass(frozen=True, slots=True)
class Terms:
    """What all calls of one watchdog share."""

    function: Function
    slots: Slots
    exec_timeout_s: float
    loop: asyncio.AbstractEventLoop
    log: EventLog
    debug: bool = False
    """Whether bodies are logged."""


class Call:
    """HOT: one object per request; making, timing and ending it costs 1.5 µs."""

    __slots__ = ("_looked_at", "_terms", "_timer", "begun", "body", "exchange", "runs", "task")

    def __init__(self, exchange: Exchange, terms: Terms) -> None:
        self.exchange = exchange
        self.body = b""
        self.begun = 0.0
        """When its body was complete."""
        self.task: asyncio.Task[None] | None = None
        """The task that runs it, for functions that run calls as tasks."""
        self.runs = False
        """Whether a thread runs it, for functions that run calls on threads."""
        self._terms = terms
        self._looked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        terms.slots.take()
        exchange.on_gone(self._gone)

    @property
    def call_id(self) -> str:
        """The caller's `X-Call-Id`, empty without one."""
        value = self.exchange.header(b"x-call-id")
        return value.decode("latin-1") if value else ""

    def begin(self, _exchange: Exchange, body: bytes) -> None:
        """The body is complete: run the function, if the caller is still there."""
        self.body = body
        self.exchange.if_still_there(self._begin)

    def _begin(self) -> None:
        terms = self._terms
        self.begun = self._looked_at = time.perf_counter()
        self._timer = terms.loop.call_later(terms.exec_timeout_s, self._too_slow)
        if terms.debug:
            terms.log.info("request", call_id=self.call_id, body=self.body)
        terms.function.start(self)

    def looked_for(self) -> bool:
        """Whether the caller was there a moment ago. False: this process may have stood still since. For any thread."""
        return time.perf_counter() - self._looked_at < LOOKED_FOR_S

    def look_again(self, run: Callable[[], None]) -> None:
        """Call `run` if the caller is still there; else the function is told to cancel, as ever."""

        def still_there() -> None:
            self._looked_at = time.perf_counter()
            run()

        self.exchange.if_still_there(still_there)

    async def still_wanted(self) -> None:
        """Return at once, or after another look; for a run that is a task: it is cancelled when nobody is there."""
        if not self.looked_for():
            seen = self._terms.loop.create_future()
            self.look_again(lambda: None if seen.done() else seen.set_result(None))
            await seen

    def take_body(self) -> bytes:
        """The body, which whoever takes it keeps from now on; it counts as held until the answer is complete."""
        body, self.body = self.body, b""
        self.exchange.forget_body()
        return body

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer, unless that has been done or nobody waits; `headers` are lines made by `header_lines`."""
        if self._terms.debug:
            self._terms.log.info("answer", call_id=self.call_id, status=status, body=body)
        if not self.exchange.answered:
            duration = b"X-Duration-Seconds: %.6f\r\n" % (time.perf_counter() - self.begun)
            self.exchange.respond(status, headers + duration, body)

    def stream(self, headers: bytes) -> bool:
        """Begin an answer of unknown length; its pieces go to `exchange`. False: nobody waits for it any more."""
        if self.exchange.answered or self.exchange.over:
            return False
        self.exchange.start(200, headers, None)
        return True

    def ended(self) -> None:
        """Nothing of it runs any more: its slot is free."""
        if self._timer is not None:
            self._timer.cancel()
        self._terms.slots.free()

    @guarded(Work.RUNNING)
    def _too_slow(self) -> None:
        limit_s = self._terms.exec_timeout_s
        self._terms.log.error("function too slow", call_id=self.call_id, exec_timeout_s=limit_s)
        if self.exchange.answered:
            self.exchange.abort()  # a streamed answer: whoever reads it must not take it for whole
        self.answer(504, TEXT, f"The function did not finish within {limit_s:g} s (exec_timeout).\n".encode())
        self._terms.function.cancel(self)

    def _gone(self) -> None:
        if self._timer is None:
            self._terms.slots.free()  # the client left during upload, or right after: it never ran
            return
        self._terms.log.warning("caller left", call_id=self.call_id)
        self._terms.function.cancel(self)
