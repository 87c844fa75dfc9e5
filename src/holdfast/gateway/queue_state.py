"""The state of the queues as the gateway sees it: what waits in them, for how long, and who takes it out.

Asked of NATS each time, except the number of waiting calls by function: counting those takes the server time that grows
with their number, so it is done at most a twentieth of the time and remembered meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import structlog

from holdfast import telemetry
from holdfast.errors import PeerError, QueueError, QueueRefused
from holdfast.exposition import Shown
from holdfast.function import FunctionRef
from holdfast.gateway.metrics import deployed
from holdfast.gateway.upstream import Upstream
from holdfast.queue.connection import Connection
from holdfast.queue.depth import QueueDepth, by_function, depth
from holdfast.queue.presence import Presence, Worker
from holdfast.queue.waiting import queues
from holdfast.telemetry import Derived

SHARE = 20
# Counting by function is done for at most one part in so many of the time.
LEAST_PAUSE_S = 1.0
LOOK_TIMEOUT_S = 2.0

log = structlog.get_logger()


class QueueState(NamedTuple):
    """One queue."""

    depth: QueueDepth
    workers: list[Worker]
    is_served: bool | None
    """Whether there is a worker; None while that cannot be told, just after the gateway's start."""
    functions: Counter[FunctionRef]
    """Waiting calls of each deployed function that has any."""

    @property
    def slots(self) -> int:
        """Calls that its workers run at once together."""
        return sum(worker.number("max_inflight") for worker in self.workers)


class QueueStates:
    """The queues of one gateway."""

    def __init__(self, connection: Connection, presence: Presence, upstream: Upstream, namespace: str) -> None:
        self._connection = connection
        self._presence = presence
        self._upstream = upstream
        self._namespace = namespace
        self._counting = asyncio.Lock()
        self._counted: dict[str, tuple[float, Counter[FunctionRef]]] = {}
        self._functions: list[FunctionRef] = []
        self._functions_until = 0.0

    async def names(self) -> list[str]:
        """All queues there are, by name. Raises QueueError."""
        return sorted(await queues(self._connection))

    async def of(self, queue: str) -> QueueState:
        """One queue. Raises QueueRefused (404) when there is none of that name, QueueUnavailable."""
        found = await depth(self._connection, queue)
        functions = await self._by_function(queue) if found.waiting else Counter()
        return QueueState(found, self._presence.workers_of(queue), self._presence.is_served(queue), functions)

    async def all(self) -> list[QueueState]:
        """All queues, by name. Raises QueueError."""
        found: list[QueueState] = []
        for queue in await self.names():
            try:
                found.append(await self.of(queue))
            except QueueRefused as error:
                if error.code != 404:  # deleted since its name was given
                    raise
        return found

    async def shown(self) -> list[Shown]:
        """The queues as the metrics show them. Raises QueueError."""
        states = await self.all()
        known = [state for state in states if state.is_served is not None]

        def per_queue(derived: Derived, of: Callable[[QueueState], float], states: list[QueueState]) -> Shown:
            return Shown(derived, [((state.depth.queue,), of(state)) for state in states])

        pending: list[tuple[tuple[str, ...], float]] = [
            ((state.depth.queue, str(function)), float(waiting))
            for state in states
            for function, waiting in state.functions.items()
        ]
        return [
            Shown(telemetry.PENDING_MESSAGES, pending),
            per_queue(telemetry.OLDEST_AGE, lambda state: state.depth.oldest_age_s or 0.0, states),
            per_queue(telemetry.QUEUE_PAUSED, lambda state: float(state.depth.paused), states),
            # What a gateway that has just begun to listen does not know it does not say.
            per_queue(telemetry.QUEUE_WORKERS, lambda state: float(len(state.workers)), known),
            per_queue(telemetry.QUEUE_SLOTS, lambda state: float(state.slots), known),
        ]

    async def remarks(self) -> list[str]:
        """What an operator should know: queues whose calls nobody takes out."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                return [remark for state in await self.all() if (remark := _remark(state)) is not None]
        except (QueueError, TimeoutError) as error:
            return [f"queues cannot be looked at: {str(error) or 'no answer in time'}"]

    async def _by_function(self, queue: str) -> Counter[FunctionRef]:
        # One at a time: everybody who comes meanwhile gets the same answer.
        async with self._counting:
            not_before, counted = self._counted.get(queue, (0.0, Counter()))
            if time.monotonic() < not_before:
                return counted
            functions = await self._deployed()
            began = time.monotonic()
            counted = await by_function(self._connection, queue, functions)
            ended = time.monotonic()
            self._counted[queue] = (ended + max(LEAST_PAUSE_S, SHARE * (ended - began)), counted)
            return counted

    async def _deployed(self) -> list[FunctionRef]:
        """The functions that are deployed, asked for once for all queues; as last known while the provider is away."""
        if time.monotonic() >= self._functions_until:
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    services = await deployed(self._upstream, self._namespace)
                self._functions = [FunctionRef.parse(service.function_name) for service in services]
            except (PeerError, ValueError, TimeoutError) as error:
                log.warning(
                    "functions not listed, counting those that are known", error=str(error) or "no answer in time"
                )
            self._functions_until = time.monotonic() + LEAST_PAUSE_S
        return self._functions


def _remark(state: QueueState) -> str | None:
    found = state.depth
    calls = "1 call waits" if found.waiting == 1 else f"{found.waiting} calls wait"
    if found.waiting and state.is_served is False:
        return f"{calls} in the queue {found.queue} and no worker serves it"
    if found.paused:
        return f"the queue {found.queue} is paused, {calls} in it"
    return None
