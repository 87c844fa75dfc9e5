"""The worker put together: its connections, its slots, its life from start to stop."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from holdfast import lifecycle, sockets, telemetry
from holdfast.basic_auth import provider_authorization
from holdfast.callback_guard import CallbackGuard, own_ports
from holdfast.directory import directory
from holdfast.health import health_app
from holdfast.http1.asgi import AsgiApplication
from holdfast.http1.client import ClientPool
from holdfast.http1.origin import Origin
from holdfast.http1.server import serve
from holdfast.queue import bodies
from holdfast.queue.body_sweep import BodySweep, sweeping
from holdfast.queue.connection import connect
from holdfast.queue.consumer import consume
from holdfast.queue.kept_streams import kept_streams
from holdfast.queue.publisher import Publisher
from holdfast.queue.reconcile import reconciled
from holdfast.queue.record_sweep import RecordSweep
from holdfast.queue.records import Records
from holdfast.queue.topology import ensure_consumer, stream_of
from holdfast.settings import LogSettings, NatsSettings, WorkerSettings
from holdfast.worker import LISTEN_FD
from holdfast.worker.attempt import Runner
from holdfast.worker.body import Sender
from holdfast.worker.callback import Callbacks
from holdfast.worker.callback_queue import callback_queue
from holdfast.worker.callback_settlement import CallbackSettlement
from holdfast.worker.endings import Endings
from holdfast.worker.policies import Policies
from holdfast.worker.providers import Providers
from holdfast.worker.running import RunningCalls
from holdfast.worker.signing_secrets import SigningSecrets
from holdfast.worker.slots import Slots
from holdfast.worker.turns import kept_of

PUBLISH_TIMEOUT_S = 5.0

log = structlog.get_logger()


def run(settings: WorkerSettings, nats: NatsSettings, logs: LogSettings) -> int:
    """Run one worker until it is asked to stop; gives the exit code."""
    telemetry.configure_logging(logs, "worker")
    return lifecycle.run_part(lambda stop: _main(settings, nats, stop))


async def _main(settings: WorkerSettings, nats: NatsSettings, stop: asyncio.Event) -> None:
    """Start what the worker needs; on a stop, take no more, finish within the grace period, hand back the rest."""
    listening = sockets.inherited(LISTEN_FD) or sockets.listen(
        settings.host, settings.metrics_port, purpose="worker's metrics", option="worker_metrics_port"
    )
    authorization = provider_authorization(
        basic_auth=settings.basic_auth,
        secrets=settings.secret_mount_path,
        provider_secrets=settings.provider_secret_mount_path,
    )
    guard = CallbackGuard(
        settings.callback_allow,
        deny_private=settings.callback_deny_private,
        own=own_ports(nats, Origin.parse(settings.provider_url), listening),
    )
    signing = settings.callback_signing_secret_path
    secrets = SigningSecrets(Path(signing)) if signing else None
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(
            connect(nats, name="holdfast-worker", on_back=telemetry.WORKER_RECONNECTS.inc)
        )
        missing = await stack.enter_async_context(kept_streams(nats))
        publisher = Publisher(connection, PUBLISH_TIMEOUT_S, on_no_stream=missing)
        kept = Records(connection, publisher)
        stored = bodies.Bodies(connection, publisher)
        consumer = await stack.enter_async_context(
            consume(
                connection,
                stream=stream_of(settings.queue),
                capacity=settings.max_inflight - kept_of(settings.max_inflight),
                ack_wait_s=settings.ack_wait_s,
                ensure=lambda: ensure_consumer(nats, settings.queue, settings.ack_wait_s),
            )
        )
        pool = await stack.enter_async_context(_pool(settings))
        functions = await stack.enter_async_context(
            directory(pool, settings.provider_url, authorization, settings.host_id)
        )
        health = health_app(lambda: connection.connected, "not connected to NATS: no calls are taken")
        app = await stack.enter_async_context(AsgiApplication(health))
        await stack.enter_async_context(serve(app, sockets=[listening]))
        policies = Policies(settings, functions)
        outside = await stack.enter_async_context(_pool(settings, guard))
        sender = Sender(
            stored,
            inline_bytes=bodies.inline_limit(nats.inline_body_bytes, connection.max_payload),
            max_result_bytes=settings.max_result_bytes,
        )
        callbacks = Callbacks(
            inside=pool, outside=outside, secrets=secrets, settings=settings, policies=policies, sender=sender
        )
        settlement = CallbackSettlement(connection, publisher, kept, callbacks)
        letters = await stack.enter_async_context(reconciled(connection, publisher, kept))
        sweep = BodySweep(
            connection,
            stored,
            kept,
            letters,
            age_s=settings.orphan_body_age_s,
            results_max_bytes=nats.results_max_bytes,
        )
        await stack.enter_async_context(sweeping(sweep))
        records_sweep = RecordSweep(connection, publisher, results_max_bytes=nats.results_max_bytes)
        await stack.enter_async_context(sweeping(records_sweep))
        running = RunningCalls(connection, kept, settings.queue)
        stack.callback(running.close)
        await stack.enter_async_context(
            callback_queue(connection, nats, settings, callbacks=callbacks, settlement=settlement, functions=functions)
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        providers = Providers(settings, nats, connection=connection, publisher=publisher, functions=functions)
        introducing = tasks.create_task(providers.introduce(), name="introduce")
        slots = Slots(
            settings,
            nats,
            connection=connection,
            consumer=consumer,
            publisher=publisher,
            functions=functions,
            policies=policies,
            runner=Runner(
                pool=pool,
                functions=functions,
                timeout_s=settings.upstream_timeout_s,
                replica_wait_s=settings.replica_wait_s,
                sender=sender,
                was_cancelled=running.was_cancelled,
            ),
            endings=Endings(
                queue=settings.queue,
                connection=connection,
                publisher=publisher,
                records=kept,
                callbacks=callbacks,
                settlement=settlement,
                sweep=sweep,
                tasks=tasks,
            ),
            records=kept,
            running=running,
            providers=providers,
            tasks=tasks,
        )
        slots.start()
        log.info(
            "worker ready",
            queue=settings.queue,
            max_inflight=settings.max_inflight,
            metrics=sockets.bound_url(listening),
        )
        await lifecycle.until_stopped(stop, connection.ended)
        introducing.cancel()
        await slots.stop(settings.grace_period_s)


def _pool(settings: WorkerSettings, guard: CallbackGuard | None = None) -> ClientPool:
    """Connections to functions, or, with a guard, to whoever a callback may go to."""
    return ClientPool(
        max_idle_per_origin=settings.max_inflight,
        connect_timeout_s=settings.connect_timeout_s,
        max_header_bytes=settings.max_header_bytes,
        addresses=None if guard is None else guard.addresses,
    )
