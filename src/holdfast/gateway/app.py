"""The gateway put together: its connections, its routes, its life from start to stop."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, closing
from typing import NamedTuple

import structlog
from starlette.applications import Starlette

from holdfast import lifecycle, sockets, telemetry
from holdfast.basic_auth import provider_authorization, read_credentials
from holdfast.callback_guard import CallbackGuard, OwnPort, own_ports
from holdfast.directory import directory
from holdfast.errors import SettingError
from holdfast.gateway import LISTEN_FD, METRICS_FD, answered_here, answers
from holdfast.gateway.accept import Acceptor
from holdfast.gateway.answered_here import AnsweredHere
from holdfast.gateway.call_list import CallListRoutes
from holdfast.gateway.calls import METHODS as CALL_METHODS
from holdfast.gateway.calls import Calls
from holdfast.gateway.claims import Claims
from holdfast.gateway.dead_letters import DeadLetterRoutes
from holdfast.gateway.explainer import Explainer
from holdfast.gateway.idempotency import Idempotency
from holdfast.gateway.invoke import Invoker
from holdfast.gateway.lane_board import LaneBoard
from holdfast.gateway.large_body import LargeBodies
from holdfast.gateway.lookup import Lookup
from holdfast.gateway.measured import MeasuredApp
from holdfast.gateway.metrics import metrics as metrics_route
from holdfast.gateway.openapi import openapi
from holdfast.gateway.placement import Placement
from holdfast.gateway.prefer import Prefer
from holdfast.gateway.queue_state import QueueStates
from holdfast.gateway.queues import QueueRoutes
from holdfast.gateway.refusals import HANDLERS
from holdfast.gateway.room import watched_room
from holdfast.gateway.route import ASYNC_PREFIX, SYNC_PREFIX, Names, read_route
from holdfast.gateway.system import PREFIX as SYSTEM_PREFIX
from holdfast.gateway.system import System
from holdfast.gateway.unstored import Unstored
from holdfast.gateway.upstream import Upstream
from holdfast.gateway.welcome import welcome
from holdfast.guard import Guard, Guarded, guard_at
from holdfast.health import healthz
from holdfast.http1.asgi import AsgiApplication
from holdfast.http1.client import ClientPool, Origin
from holdfast.http1.limits import Limits
from holdfast.http1.server import Exchange, serve
from holdfast.queue import bodies
from holdfast.queue.chains import Chains
from holdfast.queue.connection import Connection, connect
from holdfast.queue.group_commit import GroupCommit
from holdfast.queue.kept_streams import kept_streams
from holdfast.queue.key_secret import KeySecret
from holdfast.queue.presence import Presence
from holdfast.queue.publisher import Publisher
from holdfast.queue.reconcile import reconciled
from holdfast.queue.records import Records
from holdfast.queue.topology import ensure_queue
from holdfast.settings import GatewaySettings, LogSettings, NatsSettings

DRAIN_S = 10.0
# How long requests under way may take to be answered once the gateway was asked to stop.

LEAST_INLINE_BYTES = 1024
# A NATS server that takes less in a message is not one to work with.

_NOT_CONNECTED = "not connected to NATS: asynchronous calls are answered 503"

log = structlog.get_logger()


class Gateway:
    """The HTTP application: sends each request to the one who answers it."""

    def __init__(
        self,
        *,
        guard: Guard,
        acceptor: Acceptor,
        calls: AsgiApplication,
        invoker: Invoker,
        prefer: Prefer,
        system: System,
        other: AsgiApplication,
        names: Names,
    ) -> None:
        self._foreign_host = guard.foreign_host if guard.knows_names else None
        self._acceptor = acceptor
        self._calls = calls
        self._invoker = invoker
        self._prefer = prefer
        self._system = system
        self._other = other
        self._names = names

    def stop_waiting(self) -> None:
        """Answer those who only wait for a stored call, rather than cut them off."""
        self._prefer.stop_waiting()

    def refused(self, exchange: Exchange | None, status: int) -> None:
        """The lane has refused a request by itself; None: one that cannot be read, whatever it was to be."""
        if exchange is None or exchange.target.startswith((SYNC_PREFIX, ASYNC_PREFIX)):
            answers.count_refusal(status)

    def begin(self, exchange: Exchange) -> None:
        """Called by the HTTP lane once per request, when its head is complete."""
        if self._foreign_host is not None and (foreign := self._foreign_host(exchange)) is not None:
            answers.refuse(exchange, *foreign)
            return
        target = exchange.target
        if target.startswith(ASYNC_PREFIX):
            if exchange.method in CALL_METHODS:
                self._calls.begin(exchange)
                return
            route = read_route(target)
            if route is not None:
                self._acceptor.accept(exchange, self._names[route.name], route)
                return
        elif target.startswith(SYNC_PREFIX):
            route = read_route(target)
            if route is not None:
                ref = self._names[route.name]
                # A look at the head that is parsed already: 0.1 µs for the many that prefer nothing.
                if exchange.header(b"prefer") is None or not self._prefer.begin(exchange, ref, route):
                    self._invoker.invoke(exchange, ref, route)
                return
        elif target.startswith(SYSTEM_PREFIX):
            self._system.forward(exchange, target)
            return
        else:
            self._other.begin(exchange)
            return
        answers.refuse(exchange, 400, answers.not_a_route(target))


def run(settings: GatewaySettings, nats: NatsSettings, logs: LogSettings) -> int:
    """Run one gateway until it is asked to stop; gives the exit code."""
    telemetry.configure_logging(logs, "gateway")
    return lifecycle.run_part(lambda stop: _main(settings, nats, stop))


async def _main(settings: GatewaySettings, nats: NatsSettings, stop: asyncio.Event) -> None:
    """Start what the gateway needs, from the queue up to the open port; stop it in the opposite order."""
    listening = sockets.inherited(LISTEN_FD) or sockets.listen(
        settings.host, settings.port, purpose="gateway", option="gateway_port"
    )
    metrics_listening = sockets.inherited(METRICS_FD) or sockets.listen(
        settings.host, settings.metrics_port, purpose="gateway's metrics", option="gateway_metrics_port"
    )
    credentials = read_credentials(settings.secret_mount_path) if settings.basic_auth else None
    authorization = provider_authorization(
        basic_auth=settings.basic_auth,
        secrets=settings.secret_mount_path,
        provider_secrets=settings.provider_secret_mount_path,
    )
    callback_guard = _callback_guard(settings, nats, listening, metrics_listening)
    guard = guard_at(listening, credentials, settings.allowed_hosts)
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(
            connect(nats, name="holdfast-gateway", on_back=telemetry.GATEWAY_RECONNECTS.inc)
        )
        await ensure_queue(nats, settings.queue)
        missing = await stack.enter_async_context(kept_streams(nats))
        publisher = Publisher(connection, settings.publish_timeout_s, on_no_stream=missing)
        pool = await stack.enter_async_context(
            ClientPool(
                max_idle_per_origin=settings.max_idle_conns_per_host,
                connect_timeout_s=settings.connect_timeout_s,
                max_header_bytes=settings.max_header_bytes,
            )
        )
        functions = await stack.enter_async_context(
            directory(pool, settings.provider_url, authorization, settings.host_id)
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        placement = Placement(nats, settings.queue, functions, tasks)
        metrics = telemetry.GatewayMetrics()
        upstream = Upstream(pool, Origin.parse(settings.provider_url), authorization)
        here = AnsweredHere(upstream, settings.namespace)
        system_application = await stack.enter_async_context(
            AsgiApplication(MeasuredApp(here), max_body_bytes=answered_here.MOST_BODY_BYTES)
        )
        kept = Records(connection, publisher)
        letters = await stack.enter_async_context(reconciled(connection, publisher, kept))
        stored = bodies.Bodies(connection, publisher)
        presence = stack.enter_context(closing(Presence(connection)))
        queues = QueueStates(connection, presence, upstream, settings.namespace)
        routes = [
            *DeadLetterRoutes(letters, placement, settings.namespace).routes,
            *QueueRoutes(queues, connection, kept, stored, settings.namespace).routes,
            *CallListRoutes(connection, kept, settings.namespace).routes,
        ]
        operation = await stack.enter_async_context(
            AsgiApplication(MeasuredApp(Starlette(routes=routes, exception_handlers=HANDLERS)))
        )
        lanes = LaneBoard(presence, functions)
        large = LargeBodies(
            stored,
            inline_bytes=min(_inline_limit(nats, settings, connection), settings.max_body_bytes),
            max_body_bytes=settings.max_body_bytes,
            most_at_once=settings.max_uploads,
            tasks=tasks,
        )
        ids = await _ids(nats, settings, connection, publisher, large)
        calls = Calls(
            connection,
            kept,
            bodies=stored,
            lookup=Lookup(
                connection, kept, ids.chains, ids.unstored, functions=functions, namespace=settings.namespace
            ),
            chains=ids.chains,
            explainer=Explainer(connection, functions, presence, lanes),
        )
        acceptor = Acceptor(
            placement=placement,
            room=await stack.enter_async_context(watched_room(connection, settings.max_waiting)),
            publisher=publisher,
            group_commit=GroupCommit(connection, publisher) if settings.group_commit else None,
            lanes=lanes,
            functions=functions,
            metrics=metrics,
            idempotency=ids.idempotency,
            claims=ids.claims,
            guard=callback_guard,
            max_depth=settings.callback_max_depth,
            large=large,
            tasks=tasks,
        )
        gateway = Gateway(
            guard=guard,
            acceptor=acceptor,
            calls=await stack.enter_async_context(AsgiApplication(calls.app)),
            invoker=Invoker(
                pool=pool, functions=functions, metrics=metrics, timeout_s=settings.upstream_timeout_s, tasks=tasks
            ),
            prefer=Prefer(acceptor, connection, kept, stored, settings.prefer_max_wait_s),
            system=System(upstream, guard, here, system_application, operation),
            other=await stack.enter_async_context(
                AsgiApplication(
                    Starlette(
                        routes=[
                            healthz(lambda: connection.connected, _NOT_CONNECTED),
                            openapi(),
                            *welcome(sockets.bound_url(listening), password=credentials is not None),
                        ]
                    )
                )
            ),
            names=Names(settings.namespace),
        )
        metrics_app = await stack.enter_async_context(
            AsgiApplication(
                Guarded(
                    Starlette(
                        routes=[
                            metrics_route(upstream, settings.namespace, connection, queues.shown),
                            healthz(lambda: connection.connected, _NOT_CONNECTED, queues.remarks),
                        ]
                    ),
                    guard.foreign_host,
                )
            )
        )
        await stack.enter_async_context(serve(metrics_app, sockets=[metrics_listening], limits=_limits(settings)))
        server = await stack.enter_async_context(
            serve(gateway, sockets=[listening], limits=_limits(settings), on_refused=gateway.refused)
        )
        log.info("gateway ready", url=sockets.bound_url(listening), metrics=sockets.bound_url(metrics_listening))
        await lifecycle.until_stopped(stop, connection.ended)
        gateway.stop_waiting()
        await server.drain(DRAIN_S)


class _Ids(NamedTuple):
    """Who tells which id an accepted call has."""

    chains: Chains
    unstored: Unstored
    idempotency: Idempotency
    claims: Claims


async def _ids(
    nats: NatsSettings, settings: GatewaySettings, connection: Connection, publisher: Publisher, large: LargeBodies
) -> _Ids:
    kept = Records(connection, publisher)
    chains = Chains(connection, publisher, nats.results_ttl_s)
    unstored = Unstored(connection, kept, settings.publish_timeout_s)
    secret = KeySecret(connection, publisher)
    # Known from the start, so that the first call with a key does not wait for it.
    await secret.read()
    idempotency = Idempotency(connection, publisher, kept, secret=secret, chains=chains, unstored=unstored, large=large)
    return _Ids(chains, unstored, idempotency, Claims(connection, kept, chains, unstored, large))


def _limits(settings: GatewaySettings) -> Limits:
    return Limits(
        max_header_bytes=settings.max_header_bytes,
        max_headers=settings.max_headers,
        max_target_bytes=settings.max_target_bytes,
        max_pipelined=settings.max_pipelined,
        max_connections=settings.max_connections,
        max_held_bytes=settings.max_held_bytes,
        head_timeout_s=settings.head_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        body_timeout_s=settings.read_timeout_s,
        min_body_rate=settings.min_body_rate,
        write_timeout_s=settings.write_timeout_s,
    )


def _callback_guard(
    settings: GatewaySettings, nats: NatsSettings, listening: socket.socket, metrics: socket.socket
) -> CallbackGuard:
    return CallbackGuard(
        settings.callback_allow,
        deny_private=settings.callback_deny_private,
        own=own_ports(nats, Origin.parse(settings.provider_url), metrics),
        gateway=OwnPort(*listening.getsockname()[:2]),
    )


def _inline_limit(nats: NatsSettings, settings: GatewaySettings, connection: Connection) -> int:
    """The largest body that travels in its message; that one of any size can is said now, not to each caller."""
    limit = bodies.inline_limit(nats.inline_body_bytes, connection.max_payload)
    if limit < LEAST_INLINE_BYTES or settings.max_header_bytes + bodies.HEADS_BYTES > connection.max_payload:
        raise SettingError(
            "max_header_bytes",
            str(settings.max_header_bytes),
            f"a NATS server whose max_payload is above {bodies.HEADS_BYTES + settings.max_header_bytes} for the heads "
            f"of requests and answers: this one's is {connection.max_payload}",
        )
    return limit
