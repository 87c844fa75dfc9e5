"""Queues over HTTP: what is in them, holding them, emptying them.

    GET    /system/queues
    GET    /system/queues/<name>
    POST   /system/queues/<name>/pause     {"for": "10m"}, or nothing: until it is resumed
    POST   /system/queues/<name>/resume
    POST   /system/queues/<name>/purge     {"function": "name.namespace"}, or nothing: all that waits

Who may ask was decided in system.py. A purge works for PURGE_S at most; its answer says whether it is complete.
"""

from __future__ import annotations

import json
import re
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from holdfast.duration import parse_duration
from holdfast.errors import BadRequest, QueueRefused
from holdfast.function import FunctionRef
from holdfast.gateway.purge import purge
from holdfast.gateway.queue_state import QueueState, QueueStates
from holdfast.queue import depth
from holdfast.queue.bodies import Bodies
from holdfast.queue.connection import Connection
from holdfast.queue.records import Records
from holdfast.queue_name import problem_with

PREFIX = b"/system/queues"
LONGEST_PAUSE_S = 366 * 24 * 3600.0
PURGE_S = 10.0
# Within the patience of clients and proxies. On a busy two-core machine 16,000 calls with durability `os`, 4,000 with
# `disk`.

_WORD = re.compile(r"[-a-zA-Z_0-9]+")

log = structlog.get_logger()


class QueueRoutes:
    """The routes, in `routes`."""

    def __init__(
        self, states: QueueStates, connection: Connection, records: Records, bodies: Bodies, namespace: str
    ) -> None:
        self._states = states
        self._connection = connection
        self._records = records
        self._bodies = bodies
        self._namespace = namespace
        self.routes = [
            Route("/system/queues", self.list_queues, methods=["GET"]),
            Route("/system/queues/{name}", self.show, methods=["GET"]),
            Route("/system/queues/{name}/pause", self.pause, methods=["POST"]),
            Route("/system/queues/{name}/resume", self.resume, methods=["POST"]),
            Route("/system/queues/{name}/purge", self.purge, methods=["POST"]),
        ]

    async def list_queues(self, _request: Request) -> Response:
        """All queues, by name."""
        return JSONResponse([_document(state) for state in await self._states.all()])

    async def show(self, request: Request) -> Response:
        """One queue."""
        return await self._shown(_name(request))

    async def pause(self, request: Request) -> Response:
        """Hand out no more of its calls; what workers have taken goes on."""
        name = _name(request)
        for_s = _duration(await _body(request, {"for"}))
        try:
            await depth.pause(self._connection, name, for_s)
        except QueueRefused as error:
            raise _missing(name, error) from error
        log.info("queue paused", queue=name, for_s=for_s)
        return await self._shown(name)

    async def resume(self, request: Request) -> Response:
        """Hand out its calls again."""
        name = _name(request)
        await _body(request, set())
        try:
            await depth.resume(self._connection, name)
        except QueueRefused as error:
            raise _missing(name, error) from error
        log.info("queue resumed", queue=name)
        return await self._shown(name)

    async def purge(self, request: Request) -> Response:
        """Cancel what waits in it."""
        name = _name(request)
        body = await _body(request, {"function"})
        function = self._function(str(body["function"])) if body.get("function") else None
        try:
            done = await purge(
                self._connection, self._records, self._bodies, queue=name, function=function, limit_s=PURGE_S
            )
        except QueueRefused as error:
            raise _missing(name, error) from error
        log.info("queue purged", queue=name, function=str(function) if function else None, purged=done.purged)
        return JSONResponse({"purged": done.purged, "complete": done.complete})

    async def _shown(self, name: str) -> Response:
        try:
            return JSONResponse(_document(await self._states.of(name)))
        except QueueRefused as error:
            raise _missing(name, error) from error

    def _function(self, name: str) -> FunctionRef:
        function = FunctionRef.parse(name, self._namespace)
        # A word of a subject: a dot, a wildcard or a blank would select others.
        if any(_WORD.fullmatch(word) is None for word in (function.name.replace(".", "_"), function.namespace)):
            raise BadRequest(400, f"{name[:100]!r} is not the name of a function.")
        return function


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    problem = problem_with(name)
    if problem is not None:
        raise BadRequest(404, f"{problem}.")
    return name


def _missing(name: str, error: QueueRefused) -> BadRequest | QueueRefused:
    return BadRequest(404, f"there is no queue {name}.") if error.code == 404 else error


async def _body(request: Request, members: set[str]) -> dict[str, Any]:
    """The body's object, empty without a body. Raises BadRequest."""
    text = await request.body()
    try:
        body = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise BadRequest(400, f"the body is not JSON: {error}.") from error
    if not isinstance(body, dict) or not set(body) <= members:
        allowed = f"with {', '.join(sorted(members))}" if members else "without members"
        raise BadRequest(400, f"expected no body or a JSON object {allowed}.")
    return body


def _duration(body: dict[str, Any]) -> float | None:
    """How long to pause; None: until it is resumed."""
    text = body.get("for")
    if text is None:
        return None
    try:
        seconds = parse_duration(str(text))
    except ValueError as error:
        raise BadRequest(400, f"for: {error}.") from error
    if not 0 < seconds <= LONGEST_PAUSE_S:
        raise BadRequest(400, "for: expected more than 0s and at most 8784h; leave it out to pause until resumed.")
    return seconds


def _document(state: QueueState) -> dict[str, Any]:
    found = state.depth
    until = found.paused_until
    return {
        "name": found.queue,
        "waiting": found.waiting,
        "scheduled": found.scheduled,
        "running": found.running,
        "oldest_age_seconds": None if found.oldest_age_s is None else round(found.oldest_age_s, 3),
        "paused": found.paused,
        "paused_until": None if until is None else until.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "workers": len(state.workers),
        "max_inflight": state.slots,
        "functions": [
            {"function": str(function), "waiting": waiting}
            for function, waiting in sorted(state.functions.items(), key=lambda counted: (-counted[1], str(counted[0])))
        ],
    }
