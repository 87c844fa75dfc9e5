"""The gateway's /metrics: what was counted, and the replicas of each function as the provider has them now."""

from __future__ import annotations

import asyncio
import json

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

log = structlog.get_logger()


def metrics(upstream: Upstream, default_namespace: str) -> Route:
    """`GET /metrics`. The provider is asked at each reading; while it is away its metrics are absent."""

    async def services() -> list[Service]:
        try:
            answer = await upstream.ask(b"GET", b"/system/functions", timeout_s=PROVIDER_TIMEOUT_S)
            return counts.services(json.loads(answer.body), default_namespace) if answer.status == 200 else []
        except (PeerError, ValueError) as error:
            log.warning("metrics without the provider's", error=str(error))
            return []

    async def answer(_request: Request) -> Response:
        # In a thread: reading the files of several processes takes 0.1 s for a hundred functions, and calls go on.
        text, content_type = await asyncio.to_thread(telemetry.exposition, await services())
        return Response(text, media_type=content_type)

    return Route("/metrics", answer)
