"""A queue that is a JetStream stream: Holdfast's and those of the peers on NATS."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import nats
from nats.js import JetStreamContext

from bench.queue import Queue


class Stream(Queue):
    """One stream and its consumers."""

    def __init__(self, jetstream: JetStreamContext, name: str) -> None:
        self._jetstream = jetstream
        self.name = name

    async def waiting(self) -> int:
        return (await self._jetstream.stream_info(self.name)).state.messages

    async def purge(self) -> None:
        await self._jetstream.purge_stream(self.name)

    async def idle(self) -> bool:
        consumers = await self._jetstream.consumers_info(self.name)
        return not await self.waiting() and not any(consumer.num_ack_pending for consumer in consumers)


@contextlib.asynccontextmanager
async def stream(nats_url: str, name: str) -> AsyncIterator[Stream]:
    """Connect to a peer's nats-server."""
    connection = await nats.connect(nats_url, name="bench", connect_timeout=5, allow_reconnect=False)
    try:
        yield Stream(connection.jetstream(timeout=10), name)
    finally:
        await connection.close()
