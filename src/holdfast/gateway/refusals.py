"""How errors leave the gateway's ASGI routes: as a status and one sentence."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ExceptionHandler

from holdfast.errors import BadRequest, QueueError
from holdfast.gateway import answers


async def refused(_request: Request, error: Exception) -> Response:
    """A request that cannot be met, with the status that the error carries."""
    assert isinstance(error, BadRequest)  # noqa: S101 - it is registered for these
    headers = None
    if error.status == 405:
        # Of all that these routes refuse this alone is a call: one that was sent by another method than POST.
        answers.count_refusal(error.status)
        headers = {"Allow": "POST"}
    return PlainTextResponse(f"{error}\n", status_code=error.status, headers=headers)


async def unavailable(_request: Request, error: Exception) -> Response:
    """NATS could not answer."""
    text = f"NATS cannot be asked now, try again shortly: {error}\n"
    return PlainTextResponse(text, status_code=503, headers={"Retry-After": "1"})


HANDLERS: dict[type[Exception], ExceptionHandler] = {BadRequest: refused, QueueError: unavailable}
