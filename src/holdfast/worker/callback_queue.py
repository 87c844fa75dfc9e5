"""The callbacks that failed at first: taken from their stream when it is time, tried, parked again or given up.

Apart from the slots for calls: a receiver that is down or slow holds none of them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from holdfast import telemetry
from holdfast.errors import QueueRefused
from holdfast.invocation import Invocation
from holdfast.queue.answer import UnreadableAnswer
from holdfast.queue.connection import Connection
from holdfast.queue.consumer import Consumer, Stopped, consume
from holdfast.queue.delivery import Delivery
from holdfast.queue.message import Undecodable
from holdfast.queue.parked_callback import NOW, STREAM, ParkedCallback, from_message, stream_config, to_publish
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallbackStatus, CallRecord, UnreadableRecord
from holdfast.queue.records import Records, Stored
from holdfast.queue.topology import consumer_config, ensure_stream_and_consumer
from holdfast.queue.waiting import remove_callback
from holdfast.settings import NatsSettings, WorkerSettings
from holdfast.worker.callback import CallbackFailed, Callbacks
from holdfast.worker.endings import give_up, stays_cancelled
from holdfast.worker.insist import insist
from holdfast.worker.outcome import Outcome

log = structlog.get_logger()


class CallbackQueue:
    """Tries parked callbacks in slots of their own. Made by `callback_queue`."""

    def __init__(
        self,
        consumer: Consumer,
        *,
        connection: Connection,
        callbacks: Callbacks,
        publisher: Publisher,
        records: Records,
    ) -> None:
        self._consumer = consumer
        self._connection = connection
        self._callbacks = callbacks
        self._publisher = publisher
        self._records = records

    async def run_slot(self) -> None:
        """Try one parked callback after the other until the consumer is stopped."""
        while True:
            try:
                delivery = await self._consumer.next()
            except Stopped:
                return
            done = False
            try:
                await self._try(delivery)
                done = True
            except QueueRefused as error:
                log.error("callback cannot be parked, handed back", error=str(error))  # noqa: TRY400 - said by NATS
            finally:
                if done:
                    delivery.ack()
                else:
                    delivery.nak()
                self._consumer.free()

    async def _try(self, delivery: Delivery) -> None:
        try:
            parked = from_message(delivery.subject, delivery.headers, delivery.payload)
        except (Undecodable, UnreadableAnswer) as error:
            log.error("callback cannot be read, removed", error=str(error))  # noqa: TRY400 - nothing of ours failed
            return
        if await self._is_settled(parked.invocation):
            return
        answer = parked.answer
        outcome = Outcome(
            answer.status, answer.headers, answer.body, parked.duration_s, parked.first_at_ns, stored=answer.stored
        )
        telemetry.CALLBACK_RETRIES.inc()
        tried = replace(parked, attempts=parked.attempts + 1)
        try:
            await self._callbacks.try_once(parked.invocation, parked.url, outcome)
        except CallbackFailed as error:
            await self._failed(tried, error)
        else:
            await self._note(tried, CallbackStatus.DELIVERED, None)

    async def _is_settled(self, invocation: Invocation) -> bool:
        """Whether the record says that it was delivered, or cancelled: the message is taken away after that is written.

        One question for each attempt after the first; its leader answers it, since a replica may not know yet.
        """
        try:
            stored = await insist(lambda: self._records.read(invocation.call_id, surely=True))
        except UnreadableRecord as error:
            self._say_unreadable(invocation, error)
            return False
        return (
            isinstance(stored, Stored)
            and stored.record.message_id == invocation.message_id
            and stored.record.callback in {CallbackStatus.CANCELLED, CallbackStatus.DELIVERED}
        )

    async def _failed(self, tried: ParkedCallback, error: CallbackFailed) -> None:
        """Park it again, or give it up."""
        if self._callbacks.gives_up(tried.attempts, error):
            await give_up(self._publisher, tried, error)
            await self._note(tried, CallbackStatus.FAILED, str(error))
            return
        wait_s = self._callbacks.wait_s(tried.attempts, dice=random.random())  # noqa: S311 - spreads load
        at = datetime.now(UTC) + timedelta(seconds=max(wait_s, error.retry_after_s or 0.0))
        await insist(lambda: self._publisher.confirm(*to_publish(tried, at)))
        await self._note(tried, CallbackStatus.PENDING, str(error))

    async def _note(self, tried: ParkedCallback, status: CallbackStatus, error: str | None) -> None:
        """Write into the call's record what became of its callback, as long as there is one.

        One that was cancelled while it was tried stays so, and what was parked or kept of it is removed.
        """

        def noted(record: CallRecord) -> CallRecord:
            counted = record._replace(callback_attempts=tried.attempts)
            if stays_cancelled(record, status):
                return counted
            return counted._replace(callback=status, callback_error=error)

        invocation = tried.invocation
        try:
            record = await insist(lambda: self._records.amend(invocation.call_id, invocation.message_id, noted))
        except UnreadableRecord as unreadable:
            self._say_unreadable(invocation, unreadable)
            return
        if record is not None and record.callback is CallbackStatus.CANCELLED:
            await insist(lambda: remove_callback(self._connection, record))

    @staticmethod
    def _say_unreadable(invocation: Invocation, error: UnreadableRecord) -> None:
        """A damaged record says nothing of the callback, which is owed all the same."""
        log.error("record of a callback cannot be read", call_id=invocation.call_id, error=str(error))


@asynccontextmanager
async def callback_queue(
    connection: Connection,
    nats: NatsSettings,
    settings: WorkerSettings,
    *,
    callbacks: Callbacks,
    publisher: Publisher,
    records: Records,
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
        asyncio.TaskGroup() as slots,
    ):
        queue = CallbackQueue(
            consumer,
            connection=connection,
            callbacks=callbacks,
            publisher=publisher,
            records=records,
        )
        for number in range(settings.callback_inflight):
            slots.create_task(queue.run_slot(), name=f"callback slot {number}")
        try:
            yield consumer
        finally:
            consumer.stop()
