"""/metrics and /healthz of one part, as a small ASGI application. What the part serves besides is its own affair."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from holdfast.exposition import exposition


def healthz(
    is_well: Callable[[], bool], otherwise: str, details: Callable[[], Awaitable[list[str]]] | None = None
) -> Route:
    """`GET /healthz`: 200 while `is_well()`, else 503 with a text that says what does not work.

    Who asks for JSON is given `details` as well: what an operator should see to, though the part is well.
    """

    async def answer(request: Request) -> Response:
        well = is_well()
        if details is not None and "application/json" in request.headers.get("accept", ""):
            found = await details() if well else [otherwise]
            return JSONResponse({"status": "ok" if well else "unavailable", "details": found}, 200 if well else 503)
        if well:
            return PlainTextResponse("OK\n")
        return PlainTextResponse(otherwise + "\n", status_code=503)

    return Route("/healthz", answer)


def metrics() -> Route:
    """`GET /metrics` in Prometheus' text form."""

    async def answer(_request: Request) -> Response:
        text, content_type = exposition()
        return Response(text, media_type=content_type)

    return Route("/metrics", answer)


def health_app(is_well: Callable[[], bool], otherwise: str) -> Starlette:
    """Both routes, for a port of their own."""
    return Starlette(routes=[metrics(), healthz(is_well, otherwise)])
