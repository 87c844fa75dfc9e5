"""The gateway's /metrics: what was counted, and the replicas of each function as the provider has them now."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from holdfast import telemetry
from holdfast.errors import PeerError
from holdfast.gateway import counts
from holdfast.gateway.upstream import Upstream
from holdfast.telemetry import Service

PROVIDER_TIMEOUT_S = 2.0
# Prometheus gives up after 10 s; what was counted is worth more than what the provider has to say.
MOST_NAMESPACES = 100

log = structlog.get_logger()


def metrics(upstream: Upstream, default_namespace: str) -> Route:
    """`GET /metrics`. The provider is asked at each reading; while it is away its metrics are absent."""

    async def services() -> list[Service]:
        try:
            async with asyncio.timeout(PROVIDER_TIMEOUT_S):
                return await deployed(upstream, default_namespace)
        except (PeerError, ValueError, TimeoutError) as error:
            log.warning("metrics without the provider's", error=str(error))
            return []

    async def answer(_request: Request) -> Response:
        # In a thread: reading the files of several processes takes 0.1 s for a hundred functions, and calls go on.
        text, content_type = await asyncio.to_thread(telemetry.exposition, await services())
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
