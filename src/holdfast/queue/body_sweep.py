"""Remove stored bodies that nobody needs any more.

    ended      a call has ended: its request goes at once, unless a dead letter keeps it
    sweep      what nothing names: a gateway or worker died while it wrote, a record has aged out, a letter was dropped
    too much   results beyond `results_max_bytes`, the oldest first, as records go

Whether a body is needed is asked of what may need it, and not guessed from its age: a delayed call may wait for months.
A sweep asks in an order in which a call that moves meanwhile may be overlooked, so a body goes only when two sweeps in
turn found nobody, and its last piece is old. When in doubt it stays.

    request    needed by a call that has not ended, and by a dead letter of the call
    result     needed by the call's record, by a callback that waits, and by the dead letters of both
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from holdfast.errors import QueueError
from holdfast.invocation import CallId, StoredBody
from holdfast.queue import parked_callback, waiting, wire
from holdfast.queue.api import TIMEOUT_S
from holdfast.queue.bodies import REQUEST, RESULT, Bodies, BodyName
from holdfast.queue.connection import Connection
from holdfast.queue.dead_letter import Kind
from holdfast.queue.dead_letters import DeadLetters
from holdfast.queue.records import Records, Stored
from holdfast.unexpected import Work, forever

LONGEST_PAUSE_S = 60.0
SHORTEST_PAUSE_S = 0.5
# Between two sweeps: half of the age, within these. A sweep of nothing is one question.
ROOM_SHARE = 8
# Results that came since the last sweep and are more than this part of their room are a reason for the next one.

log = structlog.get_logger()


class BodySweep:
    """Removes bodies, as long as `sweeping` lasts."""

    def __init__(
        self,
        connection: Connection,
        bodies: Bodies,
        records: Records,
        letters: DeadLetters,
        *,
        age_s: float,
        results_max_bytes: int,
    ) -> None:
        self._connection = connection
        self._bodies = bodies
        self._records = records
        self._letters = letters
        self._age_s = age_s
        self._results_max_bytes = results_max_bytes
        self._ended: list[StoredBody] = []
        self._came = 0
        self._wake = asyncio.Event()
        self._next_at = 0.0
        """When the next sweep is due."""
        self._pause_s = min(max(age_s / 2, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
        self._unclaimed: set[BodyName] = set()

    def ended(self, body: StoredBody) -> None:
        """A call has ended, and its record is written: its request is not needed any more."""
        self._ended.append(body)
        self._wake.set()

    def kept(self, result: StoredBody) -> None:
        """A large result was stored."""
        self._came += result.size
        if self._full:
            self._wake.set()

    @property
    def _full(self) -> bool:
        return self._came > self._results_max_bytes // ROOM_SHARE

    async def run(self) -> None:
        """Remove what has ended as it ends, and sweep from time to time, for ever."""
        self._next_at = time.monotonic()
        await forever(Work.BODIES, self._step)

    async def _step(self) -> None:
        try:
            async with asyncio.timeout(max(0.0, self._next_at - time.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
        try:
            await self._remove_ended()
            if time.monotonic() >= self._next_at or self._full:
                self._next_at = time.monotonic() + self._pause_s
                await self.sweep()
        except QueueError as error:
            log.warning("bodies not swept", error=str(error))
            self._next_at = time.monotonic() + self._pause_s

    async def _remove_ended(self) -> None:
        while self._ended:
            body = self._ended.pop()
            # Replayed and run, with its letter not dropped yet: that may be replayed again.
            if not await self._letters.has(BodyName.parse(body.name).call_id, Kind.CALL):
                await self._bodies.delete(body.name)

    async def sweep(self) -> None:
        """One sweep. Raises QueueError."""
        self._came = 0
        bodies = await self._bodies.sizes()
        unclaimed: set[BodyName] = set()
        for name in bodies:
            if name.begun_at_s > time.time() - self._age_s or await self._is_needed(name):
                continue
            if name in self._unclaimed and await self._bodies.last_written_s(name) < time.time() - self._age_s:
                log.info("body removed that nothing needs", body=str(name), bytes=bodies[name])
                await self._bodies.delete(str(name))
            else:
                unclaimed.add(name)
        self._unclaimed = unclaimed
        await self._make_room({name: size for name, size in bodies.items() if name.kind == RESULT})

    async def _make_room(self, results: dict[BodyName, int]) -> None:
        excess = sum(results.values()) - self._results_max_bytes
        for name in sorted(results, key=lambda name: name.number):
            if excess <= 0:
                return
            if await self._is_promised(name.call_id):
                continue
            log.info("result removed to make room", body=str(name), bytes=results[name])
            await self._bodies.delete(str(name))
            excess -= results[name]

    async def _is_needed(self, name: BodyName) -> bool:
        try:
            found = await self._records.read(name.call_id)
            if isinstance(found, Stored) and (name.kind == RESULT or not found.record.status.is_end):
                return True
            if await waiting.find(self._connection, name.call_id) is not None:
                return True
            if name.kind == REQUEST:
                return await self._letters.has(name.call_id, Kind.CALL)
            return await self._is_promised(name.call_id)
        except QueueError as error:
            log.warning("body kept, whether it is needed cannot be told", body=str(name), error=str(error))
            return True

    async def _is_promised(self, call_id: CallId) -> bool:
        """Whether a result is still to be delivered, or lies in a dead letter."""
        return await self._has_callback(call_id) or await self._letters.has(call_id, None)

    async def _has_callback(self, call_id: CallId) -> bool:
        for pattern in parked_callback.subjects_of_call(call_id):
            message = await self._connection.request(
                f"$JS.API.DIRECT.GET.{parked_callback.STREAM}".encode(),
                json.dumps({"last_by_subj": pattern.decode()}).encode(),
                TIMEOUT_S,
            )
            if not wire.status(message.headers):
                return True
        return False


class Sweep(Protocol):
    """What looks again and again for something to remove."""

    async def run(self) -> None:
        """Look until cancelled."""


@asynccontextmanager
async def sweeping(sweep: Sweep) -> AsyncIterator[None]:
    """Have a sweep run while the context lasts."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(sweep.run(), name=f"run {type(sweep).__name__}")
        try:
            yield
        finally:
            task.cancel()
