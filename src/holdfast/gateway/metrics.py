"""The gateway's /metrics: what was counted, what the streams hold, and the functions' replicas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from holdfast import telemetry
from holdfast.errors import PeerError, QueueError
from holdfast.exposition import Service, Shown, exposition, services_shown
from holdfast.gateway import counts
from holdfast.gateway.upstream import Upstream
from holdfast.queue.connection import Connection
from holdfast.queue.contents import contents

LOOK_TIMEOUT_S = 2.0
# Prometheus gives up after 10 s; what was counted is worth more than what others have to say.
MOST_NAMESPACES = 100

log = structlog.get_logger()


def metrics(
    upstream: Upstream, default_namespace: str, connection: Connection, queues: Callable[[], Awaitable[list[Shown]]]
) -> Route:
    """`GET /metrics`. Provider and NATS are asked at each reading; while one is away its metrics are absent."""

    async def services() -> list[Shown]:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                return services_shown(await deployed(upstream, default_namespace))
        except (PeerError, ValueError, TimeoutError) as error:
            log.warning("metrics without the provider's", error=str(error))
            return []

    async def stored() -> list[Shown]:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                held = await contents(connection)
        except (QueueError, TimeoutError) as error:
            log.warning("metrics without those of the streams", error=str(error) or "no answer in time")
            return []
        return [
            Shown(telemetry.CALLS_IN_QUEUE, [((queue,), count) for queue, count in held.queues.items()]),
            Shown(telemetry.CALL_RECORDS, [((), held.records)]),
            Shown(telemetry.DEAD_LETTERS_KEPT, [((), held.dead_letters)]),
            Shown(telemetry.CALLBACKS_PARKED, [((), held.parked_callbacks)]),
        ]

    async def lines() -> list[Shown]:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                return await queues()
        except (QueueError, TimeoutError) as error:
            log.warning("metrics without those of the queues", error=str(error) or "no answer in time")
            return []

    async def answer(_request: Request) -> Response:
        shown = [found for part in await asyncio.gather(services(), stored(), lines()) for found in part]
        # In a thread: reading the files of several processes takes 0.1 s for a hundred functions, and calls go on.
        text, content_type = await asyncio.to_thread(exposition, shown)
        return Response(text, media_type=content_type)

    return Route("/metrics", answer)


async def deployed(upstream: Upstream, default_namespace: str) -> list[Service]:
    """The functions of all namespaces: some providers list only the default one when none is named.

    Raises PeerError or ValueError when the provider does not answer, or not with JSON.
    """
    answer = await upstream.ask(b"GET", b"/system/namespaces")
    namespaces = json.loads(answer.body) if answer.status == 200 else None
    if not isinstance(namespaces, list):
        namespaces = [default_namespace]
    services: list[Service] = []
    for namespace in namespaces[:MOST_NAMESPACES]:
        answer = await upstream.ask(b"GET", f"/system/functions?namespace={quote(str(namespace), safe='')}".encode())
        if answer.status == 200:
            services += counts.services(json.loads(answer.body), str(namespace))
    return services
