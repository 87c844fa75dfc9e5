"""The callbacks that were parked: taken from their stream when it is time, tried, parked again or given up.

Apart from the slots for calls: a receiver that is down or slow holds none of them. What may not be tried now, by
receivers.py, goes back at once, so that it holds up none behind it either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog

from holdfast import telemetry
from holdfast.directory import Directory
from holdfast.errors import QueueRefused
from holdfast.queue.answer import UnreadableAnswer
from holdfast.queue.connection import Connection
from holdfast.queue.consumer import Consumer, Stopped, consume
from holdfast.queue.delivery import Delivery
from holdfast.queue.message import Undecodable
from holdfast.queue.parked_callback import NOW, STREAM, ParkedCallback, from_message, stream_config
from holdfast.queue.topology import consumer_config, ensure_stream_and_consumer
from holdfast.settings import NatsSettings, WorkerSettings
from holdfast.unexpected import Work, forever, set_aside
from holdfast.worker.callback import CallbackFailed, Callbacks, Destination
from holdfast.worker.callback_settlement import DELIVERED, CallbackSettlement
from holdfast.worker.outcome import Outcome
from holdfast.worker.receivers import Receiver

MOST_FAILURES = 5
# A callback that cannot be dealt with, for a reason that nobody has thought of, is set aside after so many deliveries.
AGAIN_AFTER_S = 1.0
PASSED_ON_AFTER_S = 0.2
MOST_PASSED_ON = 600
# Handed back so often, for two minutes at least, a callback has no worker of its own provider any more.

log = structlog.get_logger()


class _Anothers(Exception):
    """The callback is for a function of another provider's, whose workers share this queue of callbacks."""


class CallbackQueue:
    """Tries parked callbacks. Made by `callback_queue`."""

    def __init__(
        self, consumer: Consumer, *, callbacks: Callbacks, settlement: CallbackSettlement, functions: Directory
    ) -> None:
        self._consumer = consumer
        self._functions = functions
        self._callbacks = callbacks
        self._settlement = settlement

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Try parked callbacks, as many at once as the consumer hands out, until it is stopped."""

        async def begin() -> None:
            delivery = await self._consumer.next()
            tasks.create_task(self._take(delivery), name="parked callback")

        await forever(Work.CALLBACKS, begin, until=Stopped)

    async def _take(self, delivery: Delivery) -> None:
        """Lead one parked callback to its settlement."""
        settle = delivery.nak
        try:
            await self._try(delivery)
            settle = delivery.ack
        except _Anothers:
            await asyncio.sleep(PASSED_ON_AFTER_S)
        except QueueRefused as error:
            log.error("callback cannot be parked, handed back", error=str(error))  # noqa: TRY400 - said by NATS
        except Exception as error:  # noqa: BLE001 - a mistake costs this callback some attempts, and no other its worker
            set_aside(Work.CALLBACKS, error, subject=delivery.subject, delivered=delivery.delivered)
            if delivery.delivered >= MOST_FAILURES and await self._set_aside(delivery, error):
                settle = delivery.ack
            else:
                await asyncio.sleep(AGAIN_AFTER_S)
        finally:
            settle()
            self._consumer.free()

    async def _set_aside(self, delivery: Delivery, error: Exception) -> bool:
        """Keep a callback that fails in a way that nobody thought of as a dead letter; False when that fails too."""
        try:
            parked = from_message(delivery.subject, delivery.headers, delivery.payload)
            await self._settlement.give_up(parked, CallbackFailed(f"set aside after an error: {error!r}", final=True))
        except Exception as another:  # noqa: BLE001 - the same
            set_aside(Work.CALLBACKS, another, subject=delivery.subject)
            return False
        return True

    async def _try(self, delivery: Delivery) -> None:
        try:
            parked = from_message(delivery.subject, delivery.headers, delivery.payload)
        except (Undecodable, UnreadableAnswer) as error:
            telemetry.UNREADABLE.inc()
            log.error("callback cannot be read, removed", subject=delivery.subject, error=str(error))  # noqa: TRY400 - nothing of ours failed
            return
        try:
            to = self._callbacks.destination(parked.url)
        except CallbackFailed as error:
            await self._failed(parked, error)
            return
        if to.own and self._is_anothers(parked) and delivery.delivered <= MOST_PASSED_ON:
            # A function of the gateway by its path: of the Holdfast whose gateway accepted the call.
            raise _Anothers
        receiver = self._callbacks.receivers.try_begin(to.receiver)
        if receiver is not None:
            await self._attempt(parked, to, receiver)
        else:
            await self._settlement.note(parked.invocation, await self._settlement.sent_away(parked, to))

    def _is_anothers(self, parked: ParkedCallback) -> bool:
        provider = parked.invocation.provider
        return bool(provider) and provider != self._functions.provider_id

    async def _attempt(self, parked: ParkedCallback, to: Destination, receiver: Receiver) -> None:
        """One attempt, for which a place was taken."""
        settled = True
        try:
            settled = await self._settlement.is_settled(parked.invocation)
        finally:
            if settled:
                self._callbacks.receivers.ended(receiver, answered=None)
        if settled:
            return
        answer = parked.answer
        outcome = Outcome(
            answer.status, answer.headers, answer.body, parked.duration_s, parked.first_at_ns, stored=answer.stored
        )
        if parked.attempts:
            telemetry.CALLBACK_RETRIES.inc()
        tried = replace(parked, attempts=parked.attempts + 1)
        try:
            await self._callbacks.attempt(parked.invocation, to, outcome, receiver)
        except CallbackFailed as error:
            await self._failed(tried, error)
        else:
            await self._settlement.note(parked.invocation, DELIVERED._replace(attempts=tried.attempts))

    async def _failed(self, tried: ParkedCallback, error: CallbackFailed) -> None:
        await self._settlement.note(tried.invocation, await self._settlement.failed(tried, error))


@asynccontextmanager
async def callback_queue(
    connection: Connection,
    nats: NatsSettings,
    settings: WorkerSettings,
    *,
    callbacks: Callbacks,
    settlement: CallbackSettlement,
    functions: Directory,
) -> AsyncIterator[Consumer]:
    """Try parked callbacks while the context lasts. Stopping the consumer that it gives ends that in order."""

    async def ensure() -> None:
        await ensure_stream_and_consumer(
            nats, stream_config(replicas=nats.replicas), consumer_config(NOW, settings.ack_wait_s)
        )

    async with (
        consume(
            connection,
            stream=STREAM,
            capacity=settings.callback_inflight,
            ack_wait_s=settings.ack_wait_s,
            ensure=ensure,
        ) as consumer,
        asyncio.TaskGroup() as tasks,
    ):
        queue = CallbackQueue(consumer, callbacks=callbacks, settlement=settlement, functions=functions)
        tasks.create_task(queue.run(tasks), name="parked callbacks")
        try:
            yield consumer
        finally:
            consumer.stop()
