"""The naive gateway: Starlette with nats-py and aiohttp. Run by `uvicorn bench.naive.gateway:app`."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import TypedDict

import aiohttp
import nats
from nats.js import JetStreamContext
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bench.calls import HOP_BY_HOP, functions, queue_url
from bench.naive.words import SUBJECT

FUNCTIONS = functions()


class State(TypedDict):
    jetstream: JetStreamContext
    http: aiohttp.ClientSession


@contextlib.asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[State]:
    connection = await nats.connect(queue_url())
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as http:
        yield {"jetstream": connection.jetstream(), "http": http}
    await connection.close()


async def accept(request: Request) -> Response:
    """Store the call, then 202."""
    name = request.path_params["name"]
    if name not in FUNCTIONS:
        return PlainTextResponse(f"no function {name}\n", status_code=404)
    call_id = request.headers.get("x-call-id") or str(uuid.uuid4())
    started = str(time.time_ns())
    headers = {
        "Nats-Msg-Id": call_id,
        "Function": name,
        "Target": _target(request),
        "Started": started,
        "Request-Headers": json.dumps([pair for pair in request.headers.items() if pair[0] not in HOP_BY_HOP]),
    }
    if callback := request.headers.get("x-callback-url"):
        headers["Callback"] = callback
    await request.state.jetstream.publish(SUBJECT, await request.body(), timeout=5, headers=headers)
    return Response(status_code=202, headers={"X-Call-Id": call_id, "X-Start-Time": started})


async def invoke(request: Request) -> Response:
    """Call the function and hand on its answer."""
    name = request.path_params["name"]
    if name not in FUNCTIONS:
        return PlainTextResponse(f"no function {name}\n", status_code=404)
    headers = [pair for pair in request.headers.items() if pair[0] not in HOP_BY_HOP]
    headers.append(("X-Call-Id", str(uuid.uuid4())))
    headers.append(("X-Start-Time", str(time.time_ns())))
    url = FUNCTIONS[name] + _target(request)
    http: aiohttp.ClientSession = request.state.http
    async with http.request(request.method, url, data=await request.body(), headers=headers) as answer:
        kept = {key: value for key, value in answer.headers.items() if key.lower() not in HOP_BY_HOP}
        return Response(await answer.read(), status_code=answer.status, headers=kept)


def _target(request: Request) -> str:
    path: str = request.path_params.get("path", "")
    query: bytes = request.scope["query_string"]
    return f"/{path}?{query.decode()}" if query else f"/{path}"


METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]
app = Starlette(
    routes=[
        Route("/async-function/{name}", accept, methods=["POST"]),
        Route("/async-function/{name}/{path:path}", accept, methods=["POST"]),
        Route("/function/{name}", invoke, methods=METHODS),
        Route("/function/{name}/{path:path}", invoke, methods=METHODS),
    ],
    lifespan=lifespan,
)
