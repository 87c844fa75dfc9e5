"""Requests to /system in the metrics: which route a path is, and one count for each answer.

Label values come from the tables here, never from a caller.
"""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast import telemetry
from holdfast.http1.relay import CLIENT_LEFT

_ROUTES = {
    name.encode(): f"/system/{name}"
    for name in (
        "functions",
        "secrets",
        "logs",
        "namespaces",
        "info",
        "alert",
        "bundles",
        "calls",
        "dead-letters",
        "queues",
    )
}
_ROUTES_WITH_NAME = {
    name.encode(): f"/system/{name}/{{name}}"
    for name in ("function", "scale-function", "namespace", "dead-letters", "queues")
}
# /system/queues/<name>/<verb>.
_QUEUE_VERBS = {verb.encode(): f"/system/queues/{{name}}/{verb}" for verb in ("pause", "resume", "purge")}
_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})
OTHER = "other"


def route_of(path: bytes) -> str:
    """The route that a path below /system/ belongs to, with {name} for what varies."""
    first, slash, rest = path.removeprefix(b"/system/").partition(b"/")
    if not slash:
        return _ROUTES.get(first, OTHER)
    name, slash, verb = rest.partition(b"/")
    if slash:
        return _QUEUE_VERBS.get(verb, OTHER) if first == b"queues" and name else OTHER
    return _ROUTES_WITH_NAME.get(first, OTHER)


class Measured:
    """One request, from its head to its answer."""

    __slots__ = ("_began", "_method", "route")

    def __init__(self, method: bytes, path: bytes) -> None:
        self._method = method.decode("ascii") if method in _METHODS else OTHER
        self.route = route_of(path)
        self._began = time.monotonic()

    def done(self, status: int) -> None:
        """The answer is complete. A followed log counts as long as it was followed."""
        labels = (self._method, self.route, str(status))
        telemetry.HTTP_REQUESTS.labels(*labels).inc()
        telemetry.HTTP_SECONDS.labels(*labels).observe(time.monotonic() - self._began)


class MeasuredApp:
    """An ASGI application whose requests are counted when their answers are complete."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        measured = Measured(scope["method"].encode(), scope["raw_path"])
        status = CLIENT_LEFT

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            measured.done(status)
