"""The routes of /system that the gateway answers itself, from what the provider says and what it knows.

Lists and descriptions get the number of invocations, /system/info the gateway's version, and a notification of
Alertmanager is turned into requests to scale. Who may ask was decided in system.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from holdfast.errors import AnswerTimedOut, BadRequest, PeerError
from holdfast.exposition import invocations
from holdfast.function import FunctionRef
from holdfast.gateway import answers, counts
from holdfast.gateway.alerts import Alert, read_alerts, replicas_after
from holdfast.gateway.measured import route_of
from holdfast.gateway.upstream import LONGEST_WAIT_S, TIMEOUT_S, Upstream
from holdfast.headers import SERVED_BY, forwardable
from holdfast.http1.client import Answer
from holdfast.http1.relay import NOT_ANSWERED

MOST_BODY_BYTES = 1024 * 1024
# Of a notification.
_NOT_PASSED = NOT_ANSWERED | {b"date", SERVED_BY.lower()}

log = structlog.get_logger()


class AnsweredHere:
    """The routes, as an ASGI application."""

    def __init__(self, upstream: Upstream, default_namespace: str) -> None:
        self._upstream = upstream
        self._namespace = default_namespace
        self._routes: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {
            ("GET", "/system/functions"): self._functions,
            ("GET", "/system/function/{name}"): self._functions,
            ("GET", "/system/info"): self._info,
            ("POST", "/system/alert"): self._alert,
        }

    def has(self, method: bytes, route: str) -> bool:
        """Whether a request is answered here; everything else is the provider's."""
        return (method.decode("latin-1"), route) in self._routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        route = route_of(scope["raw_path"])
        response = await self._answer(self._routes[scope["method"], route], Request(scope, receive))
        response.headers["X-Served-By"] = answers.SERVED_BY.decode()
        await response(scope, receive, send)

    async def _answer(self, route: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        try:
            return await route(request)
        except BadRequest as error:
            return PlainTextResponse(f"{error}\n", error.status)
        except PeerError as error:
            log.warning(
                "the provider did not answer",
                target=_target(request)[:200].decode("ascii", "backslashreplace"),
                error=str(error),
            )
            if isinstance(error, AnswerTimedOut):
                return PlainTextResponse("the provider did not answer in time: try again.\n", 504)
            return PlainTextResponse("the provider cannot be reached: try again shortly.\n", 502)

    async def _functions(self, request: Request) -> Response:
        """A list of functions, or one function, with the invocations that were counted."""
        timeout_s = LONGEST_WAIT_S + TIMEOUT_S if request.query_params.get("wait") else TIMEOUT_S
        answer = await self._upstream.ask(b"GET", _target(request), timeout_s=timeout_s)
        # In a thread: the counters of many gateways are many files, and calls must not wait for them to be read.
        counted = await asyncio.to_thread(invocations) if answer.status == 200 else {}
        return _changed(answer, lambda document: counts.counted(document, counted, self._namespace))

    async def _info(self, request: Request) -> Response:
        return _changed(await self._upstream.ask(b"GET", _target(request)), counts.information)

    async def _alert(self, request: Request) -> Response:
        """What was scaled. A function that is not deployed is passed over: alerts outlive functions."""
        try:
            document = json.loads(await request.body())
        except ValueError as error:
            raise BadRequest(400, f"the body is not JSON: {error}.") from error
        scaled = []
        for alert in read_alerts(document):
            ref = FunctionRef.parse(alert.function, alert.namespace or self._namespace)
            replicas = await self._scale(ref, alert)
            if replicas is not None:
                log.info("scaled by an alert", function=str(ref), replicas=replicas, firing=alert.firing)
                scaled.append({"function": str(ref), "replicas": replicas})
        return JSONResponse({"scaled": scaled})

    async def _scale(self, ref: FunctionRef, alert: Alert) -> int | None:
        name, namespace = quote(ref.name, safe=""), quote(ref.namespace, safe="")
        described = await self._upstream.ask(b"GET", f"/system/function/{name}?namespace={namespace}".encode())
        status = _json(described) if described.status == 200 else None
        replicas = replicas_after(alert, status) if isinstance(status, dict) else None
        if replicas is None:
            return None
        body = {"serviceName": ref.name, "namespace": ref.namespace, "replicas": replicas}
        answer = await self._upstream.ask(
            b"POST", f"/system/scale-function/{name}?namespace={namespace}".encode(), json.dumps(body).encode()
        )
        return replicas if answer.status in {200, 201, 202} else None


def _target(request: Request) -> bytes:
    """As the caller wrote it."""
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return path + b"?" + query if query else path


def _json(answer: Answer) -> Any:
    """The answer's document; None when it is not JSON."""
    try:
        return json.loads(answer.body)
    except ValueError:
        return None


def _changed(answer: Answer, change: Callable[[Any], Any]) -> Response:
    """The provider's answer with its document changed; a refusal, or what is not JSON, as it came."""
    body = answer.body
    document = _json(answer) if answer.status == 200 else None
    if document is not None:
        body = json.dumps(change(document), ensure_ascii=False, separators=(",", ":")).encode()
    response = Response(body, answer.status)
    framed = [header for header in response.raw_headers if header[0] == b"content-length"]
    response.raw_headers = [*forwardable(answer.headers, _NOT_PASSED), *framed]
    return response
