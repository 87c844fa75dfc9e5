"""Requests to /system in the metrics: which route a path is, and one count for each answer.

Label values come from the tables here, never from a caller.
"""

from __future__ import annotations

import time

from holdfast import telemetry

_ROUTES = {
    name.encode(): f"/system/{name}"
    for name in ("functions", "secrets", "logs", "namespaces", "info", "alert", "bundles")
}
_ROUTES_WITH_NAME = {name.encode(): f"/system/{name}/{{name}}" for name in ("function", "scale-function", "namespace")}
_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})
OTHER = "other"


def route_of(path: bytes) -> str:
    """The route that a path below /system/ belongs to, with {name} for what varies."""
    first, slash, rest = path.removeprefix(b"/system/").partition(b"/")
    if not slash:
        return _ROUTES.get(first, OTHER)
    return OTHER if b"/" in rest else _ROUTES_WITH_NAME.get(first, OTHER)


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
