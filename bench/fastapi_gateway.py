"""The gateway of both task queues: FastAPI, which hands each call to a queue and answers 202 once that stored it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from bench.calls import HOP_BY_HOP, Call, functions

Store = Callable[[Call], Awaitable[None]]
"""Returns when the call is stored."""
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def gateway(store: Store, lifespan: Lifespan | None = None) -> FastAPI:
    """The application: asynchronous calls only."""
    known = functions()

    async def accept(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in known:
            return PlainTextResponse(f"no function {name}\n", status_code=404)
        query = request.url.query
        call = Call(
            call_id=request.headers.get("x-call-id") or str(uuid.uuid4()),
            function=name,
            target=f"/{request.path_params.get('path', '')}" + (f"?{query}" if query else ""),
            headers=[pair for pair in request.headers.items() if pair[0] not in HOP_BY_HOP],
            body=(await request.body()).decode("latin-1"),
            callback=request.headers.get("x-callback-url"),
            started=str(time.time_ns()),
        )
        await store(call)
        return Response(status_code=202, headers={"X-Call-Id": call["call_id"], "X-Start-Time": call["started"]})

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    for path in ("/async-function/{name}", "/async-function/{name}/{path:path}"):
        app.add_api_route(path, accept, methods=["POST"], response_model=None)
    return app
