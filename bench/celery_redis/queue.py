"""A queue that kombu, Celery's messaging library, keeps in Redis."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from redis.asyncio import Redis

from bench.queue import Queue

# kombu's names: a list of what waits, a hash and an index of what was taken and is not acknowledged.
LIST, TAKEN, TAKEN_INDEX = "celery", "unacked", "unacked_index"


class RedisQueue(Queue):
    """The default queue of a Celery application."""

    name = LIST

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def waiting(self) -> int:
        pipeline = self._redis.pipeline(transaction=True)
        in_line, taken = await pipeline.llen(LIST).hlen(TAKEN).execute()
        return int(in_line) + int(taken)

    async def purge(self) -> None:
        await self._redis.unlink(LIST, TAKEN, TAKEN_INDEX)

    async def idle(self) -> bool:
        return not await self.waiting() and bool(await self._takers())

    async def workers_stopped(self) -> None:
        """End the worker's wait for the next call.

        It waits by BRPOP, which would hand it the next call and forget that: kombu writes down that it has it only
        after it has read it, which a process that is held still does not.
        """
        for client in await self._takers():
            await self._redis.client_unblock(client)

    async def _takers(self) -> list[int]:
        """The ids of the connections that wait for a call."""
        return [int(client["id"]) for client in await self._redis.client_list() if "b" in client["flags"]]


@contextlib.asynccontextmanager
async def redis_queue(url: str) -> AsyncIterator[RedisQueue]:
    """Connect to the peer's redis-server."""
    redis = Redis.from_url(url, socket_connect_timeout=5, socket_timeout=10)
    try:
        yield RedisQueue(redis)
    finally:
        await redis.aclose()
