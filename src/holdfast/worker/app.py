"""The worker put together: slots that take calls, run them, call back and settle; its life from start to stop.

One call passes these steps, in one slot:

    take -> read -> run -> call back -> settle

Only `_settle` acknowledges. Steps that see a delivery return what is to become of it; a callback that has to be tried
again takes its delivery along and gives the slot free.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Coroutine
from contextlib import AsyncExitStack

import structlog

from holdfast import lifecycle, sockets, telemetry
from holdfast.basic_auth import provider_credentials
from holdfast.directory import directory
from holdfast.health import health_app
from holdfast.http1.asgi import AsgiApplication
from holdfast.http1.client import ClientPool
from holdfast.http1.server import serve
from holdfast.invocation import Invocation
from holdfast.queue.connection import connect
from holdfast.queue.consumer import Consumer, Delivery, Stopped, consume
from holdfast.queue.message import Undecodable, from_delivery
from holdfast.queue.topology import ensure_consumer
from holdfast.settings import LogSettings, NatsSettings, WorkerSettings
from holdfast.worker import LISTEN_FD
from holdfast.worker.attempt import Runner
from holdfast.worker.callback import CallbackFailed, Callbacks
from holdfast.worker.outcome import Outcome, no_answer

log = structlog.get_logger()


class Settlement(enum.Enum):
    """What becomes of a delivery."""

    DONE = "acknowledged: the call has ended and is never run again"
    HANDED_BACK = "given back to the queue at once, for another worker"
    REJECTED = "removed from the queue: it cannot be read, now or ever"
    KEPT = "not settled here: a callback that is tried again holds it"


class Worker:
    """Runs the calls of one queue in a fixed number of slots."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        consumer: Consumer,
        runner: Runner,
        callbacks: Callbacks,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._runner = runner
        self._callbacks = callbacks
        self._tasks = tasks
        self._metrics = telemetry.WorkerMetrics(settings.queue)
        self._callbacks_pending = 0
        self._working: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Open the slots."""
        for number in range(self._settings.max_inflight):
            self._own(self._run_slot(), f"slot {number}")

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, let those under way end within the grace time, hand back the rest."""
        self._consumer.stop()
        if self._working:
            log.info("finishing calls", running=len(self._working), grace_s=grace_s)
            await asyncio.wait(self._working, timeout=grace_s)
        for task in self._working:
            task.cancel()

    def _own(self, work: Coroutine[None, None, None], name: str) -> None:
        task = self._tasks.create_task(work, name=name)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _run_slot(self) -> None:
        """Take and run one call after the other until the consumer is stopped."""
        while True:
            try:
                delivery = await self._consumer.next()
            except Stopped:
                return
            settlement = Settlement.HANDED_BACK
            # What is cancelled, or fails by a mistake of ours, goes back to the queue.
            try:
                settlement = await self._process(delivery)
            finally:
                self._settle(delivery, settlement)
                self._consumer.free()

    async def _process(self, delivery: Delivery) -> Settlement:
        """Run one call and call back; gives what is to become of its delivery."""
        try:
            invocation = from_delivery(delivery.subject, delivery.headers, delivery.payload)
        except Undecodable as error:
            log.error("message cannot be read, removed", subject=delivery.subject, error=str(error))  # noqa: TRY400
            return Settlement.REJECTED
        counters = self._metrics[invocation.function]
        counters.began()
        try:
            outcome = await self._run(invocation, delivery)
        except asyncio.CancelledError:
            counters.handed_back()
            raise
        counters.ended(outcome.status)
        if invocation.callback_url is None:
            return Settlement.DONE
        try:
            await self._callbacks.try_once(invocation, invocation.callback_url, outcome)
        except CallbackFailed as error:
            return await self._try_callback_again(delivery, invocation, outcome, error)
        return Settlement.DONE

    async def _run(self, invocation: Invocation, delivery: Delivery) -> Outcome:
        if self._settings.write_debug:
            log.info("call", call_id=invocation.call_id, function=str(invocation.function), message=invocation.request)
        if delivery.delivered > self._settings.max_deliveries:
            outcome = no_answer(500, f"given up: {delivery.delivered - 1} workers ended while they ran this call", 0.0)
        else:
            outcome = await self._runner.run(invocation)
        if self._settings.print_body:
            log.info("answer", call_id=invocation.call_id, body=outcome.body)
        if outcome.failure is not None:
            log.warning(
                "call ended without an answer",
                call_id=invocation.call_id,
                function=str(invocation.function),
                status=outcome.status,
                reason=outcome.failure,
            )
        return outcome

    async def _try_callback_again(
        self, delivery: Delivery, invocation: Invocation, outcome: Outcome, error: CallbackFailed
    ) -> Settlement:
        """Go on with the callback outside the slot; inside it when too many wait already: then new calls wait."""
        log.warning(
            "callback failed, trying again",
            call_id=invocation.call_id,
            function=str(invocation.function),
            to=invocation.callback_url,
            error=str(error),
        )
        if self._callbacks_pending >= self._settings.max_pending_callbacks:
            return await self._finish_callback(invocation, outcome)
        self._callbacks_pending += 1
        self._own(self._finish_callback_apart(delivery, invocation, outcome), f"callback of {invocation.call_id}")
        return Settlement.KEPT

    async def _finish_callback_apart(self, delivery: Delivery, invocation: Invocation, outcome: Outcome) -> None:
        settlement = Settlement.HANDED_BACK
        try:
            settlement = await self._finish_callback(invocation, outcome)
        finally:
            self._callbacks_pending -= 1
            self._settle(delivery, settlement)

    async def _finish_callback(self, invocation: Invocation, outcome: Outcome) -> Settlement:
        assert invocation.callback_url is not None  # noqa: S101 - only a call with a callback comes here
        await self._callbacks.keep_trying(invocation, invocation.callback_url, outcome)
        return Settlement.DONE

    @staticmethod
    def _settle(delivery: Delivery, settlement: Settlement) -> None:
        """The only place where a delivery is acknowledged, handed back or removed."""
        match settlement:
            case Settlement.DONE:
                delivery.ack()
            case Settlement.HANDED_BACK:
                delivery.nak()
            case Settlement.REJECTED:
                delivery.term("cannot be read")
            case Settlement.KEPT:
                pass


def run(settings: WorkerSettings, nats: NatsSettings, logs: LogSettings) -> int:
    """Run one worker until it is asked to stop; gives the exit code."""
    telemetry.configure_logging(logs, "worker")
    return lifecycle.run_part(lambda stop: _main(settings, nats, stop))


async def _main(settings: WorkerSettings, nats: NatsSettings, stop: asyncio.Event) -> None:
    """Start what the worker needs; on a stop, take no more, finish within the grace period, hand back the rest."""
    listening = sockets.inherited(LISTEN_FD) or sockets.listen(
        settings.host, settings.metrics_port, purpose="worker's metrics", option="worker_metrics_port"
    )
    for_provider = provider_credentials(
        basic_auth=settings.basic_auth,
        secrets=settings.secret_mount_path,
        provider_secrets=settings.provider_secret_mount_path,
    )
    authorization = for_provider.header() if for_provider else None
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(
            connect(nats, name="holdfast-worker", on_back=telemetry.WORKER_RECONNECTS.inc)
        )
        consumer = await stack.enter_async_context(
            consume(
                connection,
                queue=settings.queue,
                capacity=settings.max_inflight,
                ack_wait_s=settings.ack_wait_s,
                ensure=lambda: ensure_consumer(nats, settings.queue, settings.ack_wait_s),
            )
        )
        pool = await stack.enter_async_context(ClientPool(max_idle_per_origin=settings.max_inflight))
        functions = await stack.enter_async_context(directory(pool, settings.provider_url, authorization))
        health = health_app(lambda: connection.connected, "not connected to NATS: no calls are taken")
        app = await stack.enter_async_context(AsgiApplication(health))
        await stack.enter_async_context(serve(app, sockets=[listening]))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        worker = Worker(
            settings,
            consumer=consumer,
            runner=Runner(
                pool=pool,
                functions=functions,
                timeout_s=settings.upstream_timeout_s,
                replica_wait_s=settings.replica_wait_s,
                max_result_bytes=settings.max_result_bytes,
            ),
            callbacks=Callbacks(pool, settings),
            tasks=tasks,
        )
        worker.start()
        log.info(
            "worker ready", queue=settings.queue, max_inflight=settings.max_inflight, metrics=sockets.url_of(listening)
        )
        await lifecycle.until_stopped(stop, connection.ended)
        await worker.stop(settings.grace_period_s)
