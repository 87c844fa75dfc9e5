"""Streams and consumers: their names, how they are configured, and making sure that they exist.

Managing is rare, so it goes through nats-py on a connection of its own that lives as long as one call. Everything here
may be called by any number of gateways and workers at once, and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from holdfast.errors import QueueError, QueueRefused, QueueUnavailable
from holdfast.queue.api import ask
from holdfast.queue.connection import Connection, connect
from holdfast.queue_name import problem_with
from holdfast.settings import NatsSettings

DURABLE = "workers"
"""The one pull consumer of a queue, shared by all its workers."""

STREAM_PREFIX = "OF_"
DUPLICATE_WINDOW_S = 120.0
# How long JetStream remembers a Nats-Msg-Id: far longer than a publish is tried again.
MOST_PENDING = 100_000
# Calls that all workers of a queue together may have under way.
MOST_PULLS = 10_000
# Pulls that may stand at once, about four for each worker; the server's own default is 512.
FIRST_ACK_WAIT_S = 10.0
# Of a consumer that no worker has seen yet: the first that comes sets its own.
CONSUMER_EXISTS = 10148
# JetStream's err_code for a consumer that was to be made and is there, configured otherwise.
CONNECT_PATIENCE_S = 2.0
MANAGE_TIMEOUT_S = 10.0
LEAST_VERSION = (2, 12)
# Scheduled messages came with nats-server 2.12.

log = structlog.get_logger("holdfast.queue")


def stream_of(queue: str) -> str:
    """The name of a queue's stream. Raises QueueError for a name that cannot be one."""
    problem = problem_with(queue)
    if problem is not None:
        raise QueueError(problem)
    return f"{STREAM_PREFIX}{queue}"


def stream_config(settings: NatsSettings, queue: str) -> StreamConfig:
    """How a queue's stream is made."""
    return StreamConfig(
        name=stream_of(queue),
        description=f"Calls of the queue {queue}, as HTTP requests",
        subjects=[f"{queue}.call.>", f"{queue}.lane.>", f"{queue}.later.>"],
        # What is acknowledged is gone: the stream holds exactly what is waiting or running.
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        # Scheduled messages exclude DiscardPolicy.NEW (err_code 10052). Without limits nothing is ever discarded; how
        # much may wait is the gateway's to decide.
        discard=DiscardPolicy.OLD,
        num_replicas=settings.replicas,
        duplicate_window=DUPLICATE_WINDOW_S,
        allow_direct=True,
        allow_msg_ttl=True,
        allow_msg_schedules=True,
        allow_atomic=True,
    )


def consumer_config(
    filter_subject: str, ack_wait_s: float, *, durable: str = DURABLE, most_pending: int = MOST_PENDING
) -> ConsumerConfig:
    """How a stream's consumer is made. The filter leaves out what is not for it, such as what waits for its time."""
    return ConsumerConfig(
        durable_name=durable,
        filter_subject=filter_subject,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ack_wait_s,
        # Giving up is the worker's decision, which it can tell somebody; JetStream would fall silent.
        max_deliver=-1,
        max_ack_pending=most_pending,
        max_waiting=MOST_PULLS,
    )


async def ensure_queue(settings: NatsSettings, queue: str) -> None:
    """Make sure that a queue's stream exists and has its consumer. Raises QueueError.

    The consumer too, although only workers take from it: it counts what waits, and can be paused, before there is one.
    """
    stream = stream_config(settings, queue)
    await ensure_streams(settings, stream)
    consumer = consumer_config(f"{queue}.call.>", FIRST_ACK_WAIT_S)
    async with connect(settings, name="holdfast-topology", patience_s=CONNECT_PATIENCE_S) as connection:
        try:
            # In one step and never changing what is there: a worker may be giving it its own ack_wait at this moment.
            # nats-py's call would change the one that it finds.
            await ask(
                connection,
                f"CONSUMER.CREATE.{stream.name}.{consumer.durable_name}.{consumer.filter_subject}",
                stream_name=stream.name,
                config=consumer.as_dict(),
                action="create",
            )
        except QueueRefused as error:
            if error.err_code != CONSUMER_EXISTS:
                raise


async def ensure_consumer(settings: NatsSettings, queue: str, ack_wait_s: float) -> None:
    """Make sure that a queue's stream and its consumer exist, and that the consumer has this `ack_wait`.

    Raises QueueError.
    """
    await ensure_stream_and_consumer(
        settings, stream_config(settings, queue), consumer_config(f"{queue}.call.>", ack_wait_s)
    )


async def ensure_streams(settings: NatsSettings, *streams: StreamConfig) -> None:
    """Make sure that streams exist, as they are configured. Raises QueueError."""
    async with manage(settings) as jetstream:
        for stream in streams:
            await _ensure_stream(jetstream, stream)


async def ensure_stream_and_consumer(settings: NatsSettings, stream: StreamConfig, consumer: ConsumerConfig) -> None:
    """Make sure that a stream and its consumer exist, as they are configured. Raises QueueError."""
    async with manage(settings) as jetstream:
        await _ensure_stream(jetstream, stream)
        await ensure_consumer_of(jetstream, str(stream.name), consumer)


async def ensure_consumer_of(
    jetstream: JetStreamContext, stream: str, wanted: ConsumerConfig, *, keep_pending: bool = False
) -> None:
    """Make a consumer, or give the one there is the wanted `ack_wait` and `max_ack_pending`; a pause stays."""
    try:
        found = (await jetstream.consumer_info(stream, str(wanted.durable_name))).config
    except nats.js.errors.NotFoundError:
        await jetstream.add_consumer(stream, wanted)
        return
    most_pending = found.max_ack_pending if keep_pending else wanted.max_ack_pending
    before, now = (found.ack_wait, found.max_ack_pending), (wanted.ack_wait, most_pending)
    if before != now:
        log.info("consumer changed", stream=stream, consumer=wanted.durable_name, before=before, now=now)
        changed = replace(found, ack_wait=wanted.ack_wait, max_ack_pending=most_pending)
        await jetstream.add_consumer(stream, changed)


class StreamState(NamedTuple):
    """What a consumer has to know of its stream when it begins or comes back."""

    made: str
    """When the stream was created, which tells it from another of the same name."""
    last_sequence: int
    """Of the newest message."""
    delivered_to: int
    """Sequence of the newest message that the server remembers to have delivered; 0: none ever."""


async def stream_state(connection: Connection, stream: str, durable: str = DURABLE) -> StreamState:
    """Look at a stream and its consumer, over the connection that uses them: it is asked after every reconnect.

    Raises QueueRefused (404) when one of them is not there, QueueUnavailable when nobody can say.
    """
    about = await ask(connection, f"STREAM.INFO.{stream}")
    consumer = await ask(connection, f"CONSUMER.INFO.{stream}.{durable}")
    try:
        return StreamState(
            str(about["created"]), int(about["state"]["last_seq"]), int(consumer["delivered"]["stream_seq"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise QueueUnavailable(f"JetStream's answers about {stream} cannot be read: {error!r}") from error


async def _ensure_stream(jetstream: JetStreamContext, wanted: StreamConfig) -> None:
    name = str(wanted.name)
    try:
        found = (await jetstream.stream_info(name)).config
    except nats.js.errors.NotFoundError:
        # Two that create the same stream at once both succeed: the same configuration is no conflict.
        await jetstream.add_stream(wanted)
        log.info("stream made", stream=name, replicas=wanted.num_replicas)
        return
    changes: dict[str, Any] = {}
    if (found.max_age or 0) != (wanted.max_age or 0) or (found.max_bytes or -1) != (wanted.max_bytes or -1):
        changes |= {"max_age": wanted.max_age, "max_bytes": wanted.max_bytes}
    # Made by an older version, which knew fewer places and no batches.
    if set(wanted.subjects or ()) - set(found.subjects or ()):
        changes["subjects"] = wanted.subjects
    if wanted.allow_atomic and not found.allow_atomic:
        changes["allow_atomic"] = True
    if changes:
        await jetstream.update_stream(replace(found, **changes))
        log.info("stream changed", stream=name, **changes)


@asynccontextmanager
async def manage(settings: NatsSettings) -> AsyncIterator[JetStreamContext]:
    """nats-py's JetStream on a short-lived connection; its errors leave as QueueErrors."""
    seen: list[str] = []

    async def remember(error: Exception) -> None:
        seen.append(str(error) or type(error).__name__)

    client = Client()
    try:
        try:
            async with asyncio.timeout(MANAGE_TIMEOUT_S):
                await client.connect(
                    settings.servers(),
                    name="holdfast-topology",
                    error_cb=remember,
                    connect_timeout=2,
                    # Its own defaults try every server for minutes. Whoever calls has an idea of when to try again.
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                )
        except (nats.errors.Error, OSError, TimeoutError) as error:
            said = "; ".join(dict.fromkeys(seen)) or str(error) or type(error).__name__
            raise QueueUnavailable(f"no NATS server could be reached: {said}") from error
        _check_version(client.connected_server_version)
        yield client.jetstream(timeout=MANAGE_TIMEOUT_S)
    except nats.js.errors.APIError as error:
        raise QueueRefused(error.code or 0, error.err_code or 0, error.description or str(error)) from error
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise QueueUnavailable(f"JetStream did not answer: {str(error) or type(error).__name__}") from error
    finally:
        await client.close()


def _check_version(version: object) -> None:
    major, minor = int(getattr(version, "major", 0)), int(getattr(version, "minor", 0))
    if (major, minor) < LEAST_VERSION:
        least = ".".join(str(number) for number in LEAST_VERSION)
        raise QueueError(f"this nats-server is {major}.{minor}: expected {least} or newer, for scheduled messages")
