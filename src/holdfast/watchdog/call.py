"""One request on its way through a function: its deadline, its answer, its slot.

Which function runs it and how is the function's affair (fork.py, python_function.py).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

from holdfast.http1.exchange import Exchange
from holdfast.unexpected import Work, guarded
from holdfast.watchdog.log import EventLog
from holdfast.watchdog.slots import Slots

TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"


class Function(Protocol):
    """What runs calls."""

    def start(self, call: Call) -> None:
        """Begin to run a call. `call.answer` and `call.ended` must follow, each once, `ended` last."""

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

    __slots__ = ("_terms", "_timer", "begun", "body", "exchange", "task")

    def __init__(self, exchange: Exchange, terms: Terms) -> None:
        self.exchange = exchange
        self.body = b""
        self.begun = 0.0
        """When its body was complete."""
        self.task: asyncio.Task[None] | None = None
        """The task that runs it, for functions that run calls as tasks."""
        self._terms = terms
        self._timer: asyncio.TimerHandle | None = None
        terms.slots.take()
        exchange.on_gone(self._gone)

    @property
    def call_id(self) -> str:
        """The caller's `X-Call-Id`, empty without one."""
        value = self.exchange.header(b"x-call-id")
        return value.decode("latin-1") if value else ""

    def begin(self, _exchange: Exchange, body: bytes) -> None:
        """The body is complete: run the function."""
        terms = self._terms
        self.body = body
        self.begun = time.perf_counter()
        self._timer = terms.loop.call_later(terms.exec_timeout_s, self._too_slow)
        if terms.debug:
            terms.log.info("request", call_id=self.call_id, body=body)
        terms.function.start(self)

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
            self._terms.slots.free()  # the client left during upload: it never ran
            return
        self._terms.log.warning("caller left", call_id=self.call_id)
        self._terms.function.cancel(self)
