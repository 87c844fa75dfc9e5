"""The routes that change something: deploying, removing and scaling functions, secrets, namespaces.

Each change is made, then kept in the state, then answered. What was refused has changed nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from holdfast.errors import DeploymentError
from holdfast.function import FunctionRef
from holdfast.provider.bundles import Bundles
from holdfast.provider.documents import (
    Namespace,
    read_deployment,
    read_namespace,
    read_namespace_name,
    read_reference,
    read_replicas,
    read_secret,
)
from holdfast.provider.replicas import Functions
from holdfast.provider.secrets import Secrets
from holdfast.provider.state import State
from holdfast.stack import Deployment

MOST_BODY_BYTES = 4 * 1024 * 1024

log = structlog.get_logger()


class NotThereError(DeploymentError):
    """What a request names does not exist: answered 404."""


class Admin:
    """The routes. Objects and statuses are those of OpenFaaS's provider API."""

    def __init__(
        self,
        running: Functions,
        state: State,
        secrets: Secrets,
        *,
        namespace: str,
        folder: Path,
        samples: Mapping[str, Deployment],
        bundles: Bundles,
    ) -> None:
        self._functions = running
        self._state = state
        self._secrets = secrets
        self._namespace = namespace
        self._folder = folder
        self._samples = samples
        self._bundles = bundles
        self.routes = [
            Route("/system/functions", self.deploy, methods=["POST", "PUT"]),
            Route("/system/functions", self.remove, methods=["DELETE"]),
            Route("/system/scale-function/{name}", self.scale, methods=["POST"]),
            Route("/system/secrets", self.list_secrets, methods=["GET"]),
            Route("/system/secrets", self.put_secret, methods=["POST", "PUT"]),
            Route("/system/secrets", self.remove_secret, methods=["DELETE"]),
            Route("/system/namespaces", self.list_namespaces, methods=["GET"]),
            Route("/system/namespace/", self.create_namespace, methods=["POST"]),
            Route("/system/namespace/{name}", self.describe_namespace, methods=["GET"]),
            Route("/system/namespace/{name}", self.create_namespace, methods=["POST"]),
            Route("/system/namespace/{name}", self.update_namespace, methods=["PUT"]),
            Route("/system/namespace/{name}", self.remove_namespace, methods=["DELETE"]),
        ]

    # ---- functions

    def restore(self) -> None:
        """Deploy again what was deployed through the API before a restart; what cannot be read is logged and kept."""
        for name, kept in list(self._state.functions.items()):
            try:
                deployment = self._read(kept["document"])
                created_at = datetime.fromisoformat(kept["created_at"])
                self._functions.restore(deployment, replicas=kept["replicas"], created_at=created_at)
            except (DeploymentError, KeyError, TypeError, ValueError) as error:
                log.error("kept function cannot be read", function=name, error=str(error))  # noqa: TRY400

    async def deploy(self, request: Request) -> Response:
        """`POST` deploys, or updates what is there; `PUT` only updates. 202, with a line for each warning."""
        document = await _body(request)
        deployment = self._read(document)
        known = self._functions.get(deployment.ref)
        if known is None and request.method == "PUT":
            raise NotThereError(deployment.ref.name, f"is not deployed in {deployment.ref.namespace}: POST deploys it")
        self._must_exist(deployment.ref.namespace)
        function = self._functions.deploy(deployment)
        self._state.functions[str(deployment.ref)] = {
            "document": document,
            "created_at": function.created_at.astimezone(UTC).isoformat(),
            "replicas": function.wanted,
        }
        self._state.save()
        log.info("deployed", function=str(deployment.ref), update=known is not None)
        if function.warnings:
            return PlainTextResponse("".join(f"warning: {warning}\n" for warning in function.warnings), 202)
        return Response(status_code=202)

    async def remove(self, request: Request) -> Response:
        """`DELETE {"functionName"}`. 202."""
        namespace = request.query_params.get("namespace", "") or self._namespace
        ref = read_reference(await _body(request), "functionName", namespace)
        if not self._functions.remove(ref):
            raise NotThereError(ref.name, f"is not deployed in {ref.namespace}")
        self._state.functions.pop(str(ref), None)
        self._state.save()
        log.info("removed", function=str(ref))
        return Response(status_code=202)

    async def scale(self, request: Request) -> Response:
        """`POST {"replicas"}`. 202."""
        document = await _body(request)
        replicas = read_replicas(document)
        namespace = request.query_params.get("namespace", "") or str(document.get("namespace") or "")
        name: str = request.path_params["name"]
        ref = FunctionRef(name, namespace) if namespace else FunctionRef.parse(name, self._namespace)
        function = self._functions.get(ref)
        if function is None:
            raise NotThereError(ref.name, f"is not deployed in {ref.namespace}")
        self._functions.scale(function, replicas)
        kept = self._state.functions.get(str(ref))
        if kept is not None:
            kept["replicas"] = replicas
            self._state.save()
        return Response(status_code=202)

    def _read(self, document: Any) -> Deployment:
        return read_deployment(
            document,
            namespace=self._namespace,
            folder=self._folder,
            samples=self._samples,
            bundle=self._bundles.resolve,
        )

    # ---- secrets

    async def list_secrets(self, request: Request) -> Response:
        """`GET ?namespace=`: names, never values."""
        namespace = read_namespace_name(request.query_params.get("namespace", "") or self._namespace)
        return JSONResponse([{"name": name, "namespace": namespace} for name in self._secrets.names(namespace)])

    async def put_secret(self, request: Request) -> Response:
        """`POST` creates, 201, or 409; `PUT` replaces, 200. Functions see it when their replicas start anew."""
        secret = read_secret(await _body(request), self._namespace, with_value=True)
        self._must_exist(secret.namespace)
        there = self._secrets.has(secret.namespace, secret.name)
        if request.method == "PUT" and not there:
            raise NotThereError(secret.name, f"is no secret in {secret.namespace}")
        if request.method == "POST" and there:
            # A value that is written over cannot be had again: faas-cli asks for an update when it sees this.
            return PlainTextResponse(f"secret {secret.name} exists already: PUT changes it\n", 409)
        assert secret.value is not None  # noqa: S101 - read with its value
        self._secrets.put(secret.namespace, secret.name, secret.value)
        log.info("secret kept", secret=secret.name, namespace=secret.namespace)
        return Response(status_code=200 if request.method == "PUT" else 201)

    async def remove_secret(self, request: Request) -> Response:
        """`DELETE {"name"}`. 202: faas-cli takes that, and not the 204 of OpenFaaS's own document."""
        namespace = request.query_params.get("namespace", "") or self._namespace
        secret = read_secret(await _body(request), namespace, with_value=False)
        if not self._secrets.remove(secret.namespace, secret.name):
            raise NotThereError(secret.name, f"is no secret in {secret.namespace}")
        log.info("secret removed", secret=secret.name, namespace=secret.namespace)
        return Response(status_code=202)

    # ---- namespaces

    def namespaces(self) -> list[str]:
        """Those that were created, those with functions, and the default one."""
        with_functions = {function.deployment.ref.namespace for function in self._functions}
        return sorted({self._namespace, *self._state.namespaces, *with_functions})

    async def list_namespaces(self, _request: Request) -> Response:
        """`GET`: their names."""
        return JSONResponse(self.namespaces())

    async def describe_namespace(self, request: Request) -> Response:
        """`GET`: name, labels, annotations."""
        name = read_namespace_name(request.path_params["name"])
        self._must_exist(name)
        return JSONResponse({"name": name, **self._state.namespaces.get(name, {"labels": {}, "annotations": {}})})

    async def create_namespace(self, request: Request) -> Response:
        """`POST`: 201; 409 when there is one of that name. The name may stand in the body alone."""
        namespace = read_namespace(await _body(request), request.path_params.get("name", ""))
        if namespace.name in self.namespaces():
            return PlainTextResponse(f"namespace {namespace.name} exists already: PUT changes it\n", 409)
        self._keep(namespace)
        return Response(status_code=201)

    async def update_namespace(self, request: Request) -> Response:
        """`PUT`: replaces labels and annotations. 202."""
        namespace = read_namespace(await _body(request), request.path_params["name"])
        self._must_exist(namespace.name)
        self._keep(namespace)
        return Response(status_code=202)

    async def remove_namespace(self, request: Request) -> Response:
        """`DELETE`: 202; 409 while there are functions in it, or when it is the default one."""
        name = read_namespace_name(request.path_params["name"])
        self._must_exist(name)
        if name == self._namespace:
            return PlainTextResponse(f"namespace {name} is the default one and stays\n", 409)
        if any(function.deployment.ref.namespace == name for function in self._functions):
            return PlainTextResponse(f"namespace {name} is in use: remove its functions first\n", 409)
        for secret in self._secrets.names(name):
            self._secrets.remove(name, secret)
        self._state.namespaces.pop(name, None)
        self._state.save()
        return Response(status_code=202)

    def _keep(self, namespace: Namespace) -> None:
        self._state.namespaces[namespace.name] = {
            "labels": dict(namespace.labels),
            "annotations": dict(namespace.annotations),
        }
        self._state.save()

    def _must_exist(self, namespace: str) -> None:
        if namespace not in self.namespaces():
            raise NotThereError("", f"namespace {namespace} does not exist: create it first")


async def _body(request: Request) -> Any:
    """The request's JSON. Raises DeploymentError."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {MOST_BODY_BYTES} bytes")
    if not body:
        raise DeploymentError("", "the body is empty: expected a JSON object")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DeploymentError("", f"the body is not JSON: {error}") from error
