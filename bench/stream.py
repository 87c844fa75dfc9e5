"""A peer's stream, looked at from outside: how many calls wait in it, and how to empty it.

Asking costs the nats-server about 50 µs, so 50 questions a second are below one percent of what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import nats
from nats.js import JetStreamContext

from bench.child import BenchError
from bench.meter import Parts, cpu_seconds

_LOOK_AGAIN_S = 0.02  # JetStream has no event for "empty": it has to be asked


class Stream:
    """One stream with one consumer."""

    def __init__(self, jetstream: JetStreamContext, name: str) -> None:
        self._jetstream = jetstream
        self.name = name

    async def waiting(self) -> int:
        """Calls that are stored and not yet acknowledged."""
        return (await self._jetstream.stream_info(self.name)).state.messages

    async def purge(self) -> None:
        """Forget all waiting calls."""
        await self._jetstream.purge_stream(self.name)

    async def until_idle(self, timeout_s: float) -> None:
        """Return when nothing waits and nothing is being run. Raises BenchError after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    consumers = await self._jetstream.consumers_info(self.name)
                    if not await self.waiting() and not any(consumer.num_ack_pending for consumer in consumers):
                        return
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            raise BenchError(f"{self.name} still has calls under way after {timeout_s:g} s") from None

    async def drain(self, parts: Parts, timeout_s: float) -> list[tuple[float, int]]:
        """Watch until nothing waits; (time, calls waiting) of each look.

        Raises BenchError after `timeout_s`, ProcessGone as soon as one of the parts has ended.
        """
        looks = await self.watch(parts, timeout_s)
        if looks[-1][1]:
            raise BenchError(f"{looks[-1][1]} calls still wait in {self.name} after {timeout_s:g} s")
        return looks

    async def watch(self, parts: Parts, seconds: float) -> list[tuple[float, int]]:
        """As `drain`, for so long at most: calls may still wait after it."""
        looks: list[tuple[float, int]] = []
        ends = time.perf_counter() + seconds
        while not looks or (looks[-1][1] and looks[-1][0] < ends):
            looks.append((time.perf_counter(), await self.waiting()))
            cpu_seconds(parts)
            await asyncio.sleep(_LOOK_AGAIN_S)
        return looks


@contextlib.asynccontextmanager
async def stream(nats_url: str, name: str) -> AsyncIterator[Stream]:
    """Connect to a peer's nats-server."""
    connection = await nats.connect(nats_url, name="bench", connect_timeout=5, allow_reconnect=False)
    try:
        yield Stream(connection.jetstream(timeout=10), name)
    finally:
        await connection.close()
