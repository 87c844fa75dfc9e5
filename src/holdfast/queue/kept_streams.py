"""The streams of what is kept beside the queues: records, dead letters, large bodies, chains and the keys' secret.

They are made when a part starts, and made again when somebody has deleted one: what stood in it is gone, what comes
afterwards must not be.

Queues' own streams are made by those who use them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from nats.js.api import StreamConfig

from holdfast.errors import QueueError, QueueRefused
from holdfast.queue import bodies, chains, dead_letter, key_secret, records
from holdfast.queue.record_sweep import stream_limit
from holdfast.queue.topology import ensure_streams
from holdfast.settings import NatsSettings
from holdfast.unexpected import Work, forever

PAUSE_S = 1.0
# Between two looks: JetStream that is starting looks like one whose streams are missing.

NO_STORAGE = frozenset({10002, 10047})
# JetStream's err_codes for a limit that an account or the server cannot grant.

log = structlog.get_logger("holdfast.queue")


@asynccontextmanager
async def kept_streams(nats: NatsSettings) -> AsyncIterator[Callable[[], None]]:
    """Make the streams; gives what is to be called whenever one seems to be missing. Raises QueueError."""
    await _ensure(nats)
    missing = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        making = tasks.create_task(
            forever(Work.STREAMS, lambda: _make_again(nats, missing)), name="make missing streams"
        )
        try:
            yield missing.set
        finally:
            making.cancel()


async def _make_again(nats: NatsSettings, missing: asyncio.Event) -> None:
    await missing.wait()
    missing.clear()
    try:
        await _ensure(nats)
    except QueueError as error:
        log.warning("streams cannot be looked after", error=str(error))
    await asyncio.sleep(PAUSE_S)


async def _ensure(nats: NatsSettings) -> None:
    try:
        await ensure_streams(nats, _of_records(nats, stream_limit(nats.results_max_bytes)))
    except QueueRefused as error:
        if error.err_code not in NO_STORAGE:
            raise
        # JetStream sets a stream's limit aside, and has no more to set aside: then room is made somewhat earlier.
        await ensure_streams(nats, _of_records(nats, nats.results_max_bytes))
    await ensure_streams(
        nats,
        dead_letter.stream_config(replicas=nats.replicas),
        bodies.stream_config(replicas=nats.replicas),
        chains.stream_config(replicas=nats.replicas, ttl_s=nats.results_ttl_s, max_bytes=nats.results_max_bytes),
        key_secret.stream_config(replicas=nats.replicas),
    )


def _of_records(nats: NatsSettings, max_bytes: int) -> StreamConfig:
    return records.stream_config(replicas=nats.replicas, ttl_s=nats.results_ttl_s, max_bytes=max_bytes)
