"""The provider's HTTP API, and the provider put together: its functions, its routes, its life from start to stop."""

from __future__ import annotations

import asyncio
import json
import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import holdfast
from holdfast import lifecycle, sockets, telemetry
from holdfast.basic_auth import BasicAuth, Credentials, read_credentials
from holdfast.duration import parse_duration
from holdfast.errors import DeploymentError, SettingError, StartError
from holdfast.function import FunctionRef
from holdfast.guard import Guarded, guard_at
from holdfast.health import healthz
from holdfast.host import host_id
from holdfast.http1.asgi import AsgiApplication
from holdfast.http1.client import ClientPool, Origin
from holdfast.http1.server import serve
from holdfast.provider import LISTEN_FD
from holdfast.provider.admin import MOST_BODY_BYTES, Admin, NotThereError
from holdfast.provider.backlog import Backlog
from holdfast.provider.bundles import Bundles
from holdfast.provider.confinement import Confinements, confinements
from holdfast.provider.deployments import Identity, status
from holdfast.provider.logs import LogLine, Selection
from holdfast.provider.replicas import Function, Functions, functions
from holdfast.provider.runtime import open_runtime, unusable
from holdfast.provider.secrets import Secrets
from holdfast.provider.state import State
from holdfast.provider.usage import usage
from holdfast.settings import LogSettings, ProviderSettings
from holdfast.stack import read_stack

SAMPLES = Path(holdfast.__file__).parent / "samples" / "stack.yml"

LONGEST_WAIT_S = 300.0
# Of `wait`: whoever wants to wait longer asks again.
DRAIN_S = 1.0
# Answers of this API take milliseconds; those that wait for a replica or follow logs are cut.

log = structlog.get_logger()


class Api:
    """The routes. Paths and objects are OpenFaaS's provider API; `wait`, `name` of a list and `endpoints` are ours."""

    def __init__(self, running: Functions, namespace: str, identity: Identity) -> None:
        self._functions = running
        self._identity = identity
        self._namespace = namespace
        self.routes = [
            healthz(lambda: True, ""),
            Route("/system/functions", self.list_functions, methods=["GET"]),
            Route("/system/function/{name}", self.describe, methods=["GET"]),
            Route("/system/logs", self.logs, methods=["GET"]),
            Route("/system/info", self.info, methods=["GET"]),
        ]

    async def list_functions(self, request: Request) -> Response:
        """`GET /system/functions?namespace=`; without one of the default namespace, as OpenFaaS's providers.

        With `name=`, which may be there many times, only those of them that exist.
        """
        wanted = request.query_params.get("namespace", "") or self._namespace
        if names := set(request.query_params.getlist("name")):
            named = (self._functions.get(FunctionRef(name, wanted)) for name in names)
            chosen = [one for one in named if one is not None]
        else:
            chosen = [one for one in self._functions if one.deployment.ref.namespace == wanted]
        found = [self._shown(one) for one in chosen]
        return JSONResponse(sorted(found, key=lambda shown: str(shown["name"])))

    async def describe(self, request: Request) -> Response:
        """`GET /system/function/<name>?namespace=&usage=1&wait=10s`.

        `wait` holds the answer until a replica is ready, or so long; with `for=update` until the deployment as it is
        now serves with all its replicas, or they have ended as often as they were started.
        """
        function = self._function(request.path_params["name"], request)
        wait = request.query_params.get("wait", "")
        if wait:
            try:
                wait_s = min(parse_duration(wait), LONGEST_WAIT_S)
            except ValueError as error:
                raise HTTPException(400, f"wait: {error}") from error
            if request.query_params.get("for") == "update":
                await function.wait_updated(wait_s)
            else:
                self._functions.wake(function)
                await function.wait_ready(wait_s)
        shown = self._shown(function)
        if request.query_params.get("usage") in {"1", "true"}:
            pids = [replica.pid for replica in function.replicas if replica.pid is not None]
            shown["usage"] = await asyncio.to_thread(usage, pids)
        return JSONResponse(shown)

    async def logs(self, request: Request) -> Response:
        """`GET /system/logs?name=&namespace=&instance=&tail=&since=&follow=`: one JSON object a line."""
        query = request.query_params
        function = self._function(query.get("name", ""), request)
        selection = _selection(query.get("since", ""), query.get("tail", ""), query.get("instance", ""))
        if query.get("follow", "").lower() in {"1", "true"}:
            return StreamingResponse(_followed(function, selection), media_type="application/x-ndjson")
        lines = [_ndjson(function, line) for line in function.logs.kept(selection)]
        return Response("".join(lines), media_type="application/x-ndjson")

    async def info(self, _request: Request) -> Response:
        """`GET /system/info`."""
        version = {"release": holdfast.__version__, "sha": ""}
        provider = {
            "provider": "holdfast",
            "orchestration": "processes",
            "version": version,
            "id": self._identity.provider_id,
            "hostId": self._identity.host_id,
        }
        return JSONResponse({"provider": provider, "version": version, "arch": platform.machine()})

    def _function(self, name: str, request: Request) -> Function:
        namespace = request.query_params.get("namespace", "")
        ref = FunctionRef(name, namespace) if namespace else FunctionRef.parse(name, self._namespace)
        function = self._functions.get(ref)
        if function is None:
            raise HTTPException(404, f"there is no function {ref.name!r} in namespace {ref.namespace!r}")
        return function

    def _shown(self, function: Function) -> dict[str, Any]:
        return status(
            function.deployment,
            identity=self._identity,
            created_at=function.created_at,
            replicas=function.wanted,
            endpoints=function.endpoints,
            updated=function.updated,
            restarts=function.restarts,
            last_error=function.last_error,
            warnings=function.warnings,
        )


def _selection(since: str, tail: str, instance: str) -> Selection:
    try:
        instant = datetime.fromisoformat(since) if since else None
    except ValueError as error:
        raise HTTPException(400, f"since: expected an RFC 3339 time, not {since!r}") from error
    if instant is not None and instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    try:
        most = int(tail) if tail else -1
    except ValueError as error:
        raise HTTPException(400, f"tail: expected a whole number, not {tail!r}") from error
    # faas-cli sends -1 for all lines.
    return Selection(since=instant, tail=most if most >= 0 else None, instance=instance)


async def _followed(function: Function, selection: Selection) -> AsyncIterator[str]:
    yield ""  # so that the head goes out now, though the function may be silent for hours
    async for line in function.logs.follow(selection):
        yield _ndjson(function, line)


def _ndjson(function: Function, line: LogLine) -> str:
    ref = function.deployment.ref
    record = {
        "name": ref.name,
        "namespace": ref.namespace,
        "instance": line.instance,
        "timestamp": line.time.isoformat().replace("+00:00", "Z"),
        "text": line.text,
    }
    return json.dumps(record, ensure_ascii=False) + "\n"


async def _refuse_deployment(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", status_code=404 if isinstance(error, NotThereError) else 400)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
    text = error.detail
    if text == HTTPStatus(error.status_code).phrase:  # the framework's own, which says no more than the status
        text = f"{request.method} {request.url.path[:200]!r} is not a route of this API"
    return PlainTextResponse(f"{text}\n", status_code=error.status_code, headers=error.headers)


async def _could_not_write(request: Request, error: Exception) -> Response:
    """A full disk, say. Functions run on; what was asked for may hold only until the next start."""
    assert isinstance(error, OSError)  # noqa: S101 - it is registered for these
    reason = error.strerror or type(error).__name__
    log.error("the runtime's folder cannot be written", route=request.url.path[:200], error=str(error))
    return PlainTextResponse(f"the runtime's folder cannot be written: {reason}\n", status_code=500)


def run(settings: ProviderSettings, logs: LogSettings) -> int:
    """Run the provider until it is asked to stop; gives the exit code."""
    telemetry.configure_logging(logs, "provider")
    return lifecycle.run_part(lambda stop: run_provider(settings, stop))


async def run_provider(settings: ProviderSettings, stop: asyncio.Event) -> None:
    """Deploy the stack and serve the API until `stop` is set; then the API goes first and the functions after it.

    Raises StartError, SettingError or DeploymentError, before anything runs, when the port, the folders or the stack
    cannot be used.
    """
    _check_addresses(settings)
    with open_runtime(settings.data_folder) as mark:
        identity = Identity(mark, host_id(settings.host_id))
        async with confinements(settings.function_cgroup, mark) as held:
            await _serve_functions(settings, identity, held, stop)


def _check_addresses(settings: ProviderSettings) -> None:
    """Raises SettingError when replicas cannot listen, or be announced, where they are to."""
    host, announced = settings.replica_host, settings.announced
    try:
        sockets.listen(host, 0, purpose="functions", option="replica_host").close()
    except (StartError, OSError, UnicodeError) as error:
        raise SettingError("replica_host", host, "an address of this machine, such as 127.0.0.1 or 0.0.0.0") from error
    try:
        Origin.parse(f"http://[{announced}]" if ":" in announced else f"http://{announced}")
    except ValueError as error:
        raise SettingError("replica_announce", announced, "an address or a name, without a port") from error
    if announced in {"0.0.0.0", "::"}:
        raise SettingError(
            "replica_announce",
            settings.replica_announce,
            f"the address or name by which other hosts reach this one, as replica_host is {host}",
        )


async def _serve_functions(
    settings: ProviderSettings, identity: Identity, held: Confinements, stop: asyncio.Event
) -> None:
    listening = sockets.inherited(LISTEN_FD) or sockets.listen(
        settings.host, settings.port, purpose="provider", option="provider_port"
    )
    credentials = read_credentials(settings.secret_mount_path) if settings.basic_auth else None
    path = Path(settings.stack) if settings.stack else SAMPLES
    stack = read_stack(path, namespace=settings.namespace)
    for warning in stack.warnings:
        log.warning("stack not wholly understood", warning=warning)
    data = settings.data_folder
    # Where commands run that come without a folder: what they write there is in nobody's way.
    work = data / "work"
    try:
        state, secrets = State.load(data), Secrets(data)
        work.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unusable(data, error) from error
    async with (
        _backlog(settings, credentials) as backlog,
        functions(settings, os.environ, secrets, held, backlog) as running,
        asyncio.TaskGroup() as preparations,
    ):
        bundles = Bundles(
            data / "bundles",
            preparations,
            max_bytes=settings.max_bundle_bytes,
            install_timeout_s=settings.install_timeout_s,
            environ={**os.environ, **held.environ},
        )
        admin = Admin(
            running,
            state,
            secrets,
            namespace=settings.namespace,
            folder=work,
            samples={sample.image: sample for sample in read_stack(SAMPLES).deployments},
            bundles=bundles,
        )
        admin.restore()
        await asyncio.to_thread(bundles.sweep, state.images())
        for deployment in stack.deployments:
            running.deploy(deployment)
        app: Any = Starlette(
            routes=[*Api(running, settings.namespace, identity).routes, *admin.routes, *bundles.routes],
            exception_handlers={
                HTTPException: _refuse,
                DeploymentError: _refuse_deployment,
                OSError: _could_not_write,
            },
        )
        if credentials is not None:
            app = BasicAuth(app, credentials)
        else:
            app = Guarded(app, guard_at(listening, None, settings.allowed_hosts).refusal)
        async with (
            AsgiApplication(app, max_body_bytes=max(MOST_BODY_BYTES, settings.max_bundle_bytes)) as application,
            serve(application, sockets=[listening]) as server,
        ):
            url = sockets.bound_url(listening)
            log.info("provider ready", url=url, stack_file=str(path), functions=len(stack.deployments))
            await stop.wait()
            await server.drain(DRAIN_S)


@asynccontextmanager
async def _backlog(settings: ProviderSettings, own: Credentials | None) -> AsyncIterator[Backlog | None]:
    """Who tells what waits in the queues; None when no gateway is named."""
    if not settings.gateway_url:
        yield None
        return
    mounted = settings.gateway_secret_mount_path
    credentials = read_credentials(mounted, "gateway_secret_mount_path") if mounted else own
    async with ClientPool(max_idle_per_origin=1) as pool:
        yield Backlog(pool, settings.gateway_url, credentials)
