"""Run one call: find a replica of its function, send the request, take the answer.

An attempt always ends in an Outcome. Three things are tried again here, because the function certainly or probably did
not see the request through: no connection could be made, another program answered at its address, and the connection
ended before an answer was complete. All else, a 500 among it, is the function's answer.

A run that is cancelled has ended when `run` has: a replica on this machine has confirmed that it knows, and begins
nothing for it any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from holdfast import telemetry
from holdfast.directory import Directory, Entry, ProviderUnavailable
from holdfast.errors import AnswerMalformed, AnswerTimedOut, AnswerTooLarge, ConnectFailed, ConnectionLost, WrongPeer
from holdfast.http1.client import Answer, ClientPool, Origin
from holdfast.http1.message import for_origin
from holdfast.invocation import Invocation, StoredBody
from holdfast.queue.bodies import BodyGone
from holdfast.worker.body import Sender
from holdfast.worker.outcome import Outcome, no_answer

MOST_RUNS = 3
# A call whose function's process ends under it is run again; one that ends its function each time must not do so for
# ever.

HEARD_WITHIN_S = 0.5
# For a replica to confirm that it knows of a cancel. One that takes longer stands still, or is being started: it looks
# for its caller before it begins anything: what a look is good for (incoming.py, watchdog/call.py) is less together.
# Shorter than a gateway waits for the worker's word (gateway/cancelling.py).

WasCancelled = Callable[[Invocation], Awaitable[bool]]
"""Whether the record of a call says so."""

log = structlog.get_logger()


class Runner:
    """Runs calls against the functions of one directory."""

    def __init__(
        self,
        *,
        pool: ClientPool,
        functions: Directory,
        timeout_s: float,
        replica_wait_s: float,
        sender: Sender,
        was_cancelled: WasCancelled,
    ) -> None:
        self._pool = pool
        self._functions = functions
        self._timeout_s = timeout_s
        self._replica_wait_s = replica_wait_s
        self._sender = sender
        self._was_cancelled = was_cancelled
        self._loop = asyncio.get_running_loop()

    async def run(self, invocation: Invocation) -> Outcome | None:
        """Run a call to its end; None: it was to be run again, and was cancelled meanwhile.

        Cancelling closes the connection to the function, and waits until that is known there.
        """
        runs = 0
        # HOT: a known function with a ready replica is called without another look-up.
        entry = self._functions.known(invocation.function)
        origin = entry.pick() if entry is not None else None
        waiting_until = self._loop.time() + self._replica_wait_s
        while True:
            if entry is None or origin is None:
                found = await self._find_replica(invocation, waiting_until)
                if isinstance(found, Outcome):
                    return found
                entry, origin = found
            started_at_ns, began = time.time_ns(), time.monotonic()
            try:
                answer, stored = await self._send(invocation, entry, origin)
                took_s = time.monotonic() - began
                return Outcome(answer.status, answer.headers, answer.body, took_s, started_at_ns, stored=stored)
            except (ConnectFailed, WrongPeer) as error:
                self._functions.lost(invocation.function, origin, error)
                if self._loop.time() >= waiting_until:
                    return no_answer(503, str(error), time.monotonic() - began, started_at_ns)
            except ConnectionLost as error:
                self._functions.lost(invocation.function, origin, error)
                runs += 1
                if runs == MOST_RUNS:
                    why = f"{invocation.function} ended without an answer {runs} times: {error}"
                    return no_answer(502, why, time.monotonic() - began, started_at_ns)
                telemetry.RUN_AGAIN.inc()
                log.warning(
                    "function lost, running the call again",
                    call_id=invocation.call_id,
                    function=str(invocation.function),
                    run=runs + 1,
                    error=str(error),
                )
                waiting_until = self._loop.time() + self._replica_wait_s
                if await self._was_cancelled(invocation):
                    # Its canceller was not heard here: NATS was away, or this process stood still.
                    return None
            except AnswerTimedOut as error:
                return no_answer(504, str(error), time.monotonic() - began, started_at_ns)
            except (AnswerTooLarge, AnswerMalformed) as error:
                return no_answer(502, str(error), time.monotonic() - began, started_at_ns)
            except asyncio.CancelledError:
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARD_WITHIN_S):
                        await self._pool.heard(origin)
                raise
            except BodyGone as error:
                # 410 is not a status that is tried again by default: the body will not come back.
                why = f"{invocation.function} was not run: {error}"
                return no_answer(410, why, time.monotonic() - began, started_at_ns)
            entry = origin = None

    def _send(
        self, invocation: Invocation, entry: Entry, origin: Origin
    ) -> Awaitable[tuple[Answer, StoredBody | None]]:
        request = for_origin(invocation.request, origin.lines)
        if entry.prefix:
            method, _, rest = request.partition(b" ")
            request = b"%b %b%b" % (method, entry.prefix, rest)
        limit_s = self._timeout_s
        if invocation.timeout_s is not None:
            limit_s = min(limit_s, invocation.timeout_s)
        return self._sender.run(
            self._pool, origin, request, invocation.body, call_id=invocation.call_id, timeout_s=limit_s
        )

    async def _find_replica(self, invocation: Invocation, until: float) -> tuple[Entry, Origin] | Outcome:
        ref = invocation.function
        began = self._loop.time()
        try:
            entry = await self._functions.ready(ref, max(0.0, until - began))
        except ProviderUnavailable as error:
            return no_answer(503, f"{ref} was not run: {error}", 0.0, time.time_ns())
        if entry is None:
            return no_answer(404, f"{ref} was not run: it is no longer deployed", 0.0, time.time_ns())
        origin = entry.pick()
        if origin is None:
            why = self._functions.trouble(entry) or "no replica was ready in time"
            return no_answer(503, f"{ref} was not run: {why}", 0.0, time.time_ns())
        return entry, origin
