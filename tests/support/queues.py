"""A queue on a real server for one test: publish into it, look at it, damage it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from holdfast.queue.connection import Connection, connect
from holdfast.queue.consumer import Consumer, consume
from holdfast.queue.publisher import Publisher
from holdfast.queue.topology import DURABLE, ensure_consumer, stream_of
from tests.support.nats import NatsServer

QUEUE = "work"


class Queue:
    """The queue `work`, over a connection of the test's own."""

    def __init__(self, server: NatsServer, connection: Connection, ack_wait_s: float = 1.0) -> None:
        self.server = server
        self.connection = connection
        self.ack_wait_s = ack_wait_s
        self.ensured = 0
        self._publisher = Publisher(connection, 10)

    async def ensure(self) -> None:
        """Make stream and consumer, as a worker does."""
        self.ensured += 1
        await ensure_consumer(self.server.settings(), QUEUE, self.ack_wait_s)

    async def put(self, *bodies: bytes) -> list[int]:
        """Publish; gives the sequences."""
        return list(await asyncio.gather(*(self._put(body) for body in bodies)))

    async def _put(self, body: bytes) -> int:
        block = f"NATS/1.0\r\nNats-Msg-Id: {uuid.uuid4()}\r\n\r\n".encode()
        return await self._publisher.confirm(f"{QUEUE}.call.ns.f.{uuid.uuid4()}".encode(), block, body)

    async def api(self, subject: str, **body: Any) -> Any:
        """Ask JetStream's API, under `$JS.API.<subject>`."""
        answer = await self.connection.request(f"$JS.API.{subject}".encode(), json.dumps(body).encode(), 5)
        fields = json.loads(answer.payload)
        assert "error" not in fields, fields
        return fields

    async def left(self) -> int:
        """Messages in the stream: waiting or not acknowledged."""
        info = await self.api(f"STREAM.INFO.{stream_of(QUEUE)}")
        return int(info["state"]["messages"])

    async def until_left(self, count: int) -> None:
        """Return once so many are left: the server works acknowledgements off behind its back, and tells nobody."""
        async with asyncio.timeout(10):
            while await self.left() != count:
                await asyncio.sleep(0.01)

    async def until_pull_stands(self) -> None:
        """Return once the server has a pull: one that comes while it deletes the consumer is answered by nobody."""
        async with asyncio.timeout(10):
            while not (await self.consumer())["num_waiting"]:
                await asyncio.sleep(0.01)

    async def consumer(self) -> Any:
        """What the server knows of the consumer."""
        return await self.api(f"CONSUMER.INFO.{stream_of(QUEUE)}.{DURABLE}")

    async def delete_consumer(self) -> None:
        await self.api(f"CONSUMER.DELETE.{stream_of(QUEUE)}.{DURABLE}")

    async def delete_stream(self) -> None:
        await self.api(f"STREAM.DELETE.{stream_of(QUEUE)}")


@asynccontextmanager
async def consuming(queue: Queue, capacity: int = 1) -> AsyncIterator[Consumer]:
    """A consumer with a connection of its own, as each worker has."""
    async with (
        connect(queue.server.settings(), name="worker") as connection,
        consume(
            connection, stream=stream_of(QUEUE), capacity=capacity, ack_wait_s=queue.ack_wait_s, ensure=queue.ensure
        ) as consumer,
    ):
        yield consumer


async def nothing_comes(consumer: Consumer, seconds: float) -> None:
    """What must not happen can only be waited for."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(consumer.next(), seconds)
