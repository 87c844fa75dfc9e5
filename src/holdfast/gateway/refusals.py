"""How errors leave the gateway's ASGI routes: as a status and one sentence."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ExceptionHandler

from holdfast.errors import BadRequest, QueueError


async def refused(_request: Request, error: Exception) -> Response:
    """A request that cannot be met, with the status that the error carries."""
    assert isinstance(error, BadRequest)  # noqa: S101 - it is registered for these
    headers = {"Allow": "POST"} if error.status == 405 else None
    return PlainTextResponse(f"{error}\n", status_code=error.status, headers=headers)


async def unavailable(_request: Request, error: Exception) -> Response:
    """NATS could not answer."""
    text = f"NATS cannot be asked now, try again shortly: {error}\n"
    return PlainTextResponse(text, status_code=503, headers={"Retry-After": "1"})


HANDLERS: dict[type[Exception], ExceptionHandler] = {BadRequest: refused, QueueError: unavailable}
