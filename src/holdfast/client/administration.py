"""What is deployed, changed through a gateway's /system API: functions, their number, bundles, secrets, namespaces.

The requests are those of OpenFaaS's own client; bundles and waiting for an update are Holdfast's. Prints nothing.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from holdfast.bundle import BundleImage
from holdfast.client.errors import (
    BundleFailed,
    GatewayRefused,
    NoBundlesTaken,
    NotReady,
    UnknownFunction,
    UnknownSecret,
)
from holdfast.client.gateway import API_TIMEOUT_S, Gateway
from holdfast.function import DEFAULT_NAMESPACE

# A compiler may be silent for long; the server gives up installing after its install_timeout, 10 minutes by default.
_INSTALL_SILENCE_S = 15 * 60.0
# The gateway holds an answer for so long at most, so that one that is replaced meanwhile costs no long wait.
_LONGEST_ASK_S = 20.0
_SHOWN_LINES = 20
_PIECE = 65_536


class Step(NamedTuple):
    """Something that was done with a bundle on its way to being ready."""

    status: str
    text: str


class Administration:
    """The changes. Its gateway's client stays its owner's; an empty namespace is the gateway's default."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    # ---- functions

    def deploy(self, document: Mapping[str, Any]) -> bool:
        """Deploy a FunctionDeployment or update what runs under its name; whether there was something."""
        action = f"deploy {document['service']}"
        try:
            self._gateway.manage("PUT", "/system/functions", action, document)
        except GatewayRefused as error:
            if error.status != 404:
                raise
            self._gateway.manage("POST", "/system/functions", action, document)
            return False
        return True

    def remove(self, name: str, namespace: str = "") -> None:
        """Remove a function. Raises UnknownFunction."""
        document = {"functionName": name} | ({"namespace": namespace} if namespace else {})
        with self._known(name, namespace):
            self._gateway.manage("DELETE", "/system/functions", f"remove {name}", document, _in(namespace))

    def scale(self, name: str, replicas: int, namespace: str = "") -> None:
        """Set the number of replicas. Raises UnknownFunction."""
        document = {"serviceName": name, "replicas": replicas} | ({"namespace": namespace} if namespace else {})
        path = f"/system/scale-function/{quote(name, safe='')}"
        with self._known(name, namespace):
            self._gateway.manage("POST", path, f"scale {name}", document, _in(namespace))

    def wait_updated(self, name: str, namespace: str, timeout_s: float) -> tuple[str, ...]:
        """Wait until what was deployed last serves with all its replicas; gives what of it is not done as it says.

        Raises NotReady with what the function wrote when its replicas end as they start, or the time is over. A gateway
        that does not tell, which is any but Holdfast's, is not waited for.
        """
        began, deadline = time.time(), time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            ask_s = max(0.1, min(left, _LONGEST_ASK_S))
            found = self._described(name, namespace, {"wait": f"{ask_s:.1f}s", "for": "update"}, ask_s)
            updated, restarts = found.get("updatedReplicas"), int(found.get("restarts") or 0)
            if updated is None or int(updated) >= int(found.get("replicas") or 0):
                return tuple(str(warning) for warning in found.get("warnings") or ())
            if restarts > 1:
                reason = f"does not start: its replicas ended {restarts} times"
            elif left <= 0:
                reason = f"was not ready within {timeout_s:g} s"
            else:
                continue
            raise NotReady(
                self._gateway.url, name, reason, restarts=restarts, lines=self._wrote(name, namespace, began)
            )

    def is_ready(self, name: str, namespace: str = "") -> bool:
        """Whether a replica of a function is ready. Raises UnknownFunction."""
        return self._gateway.function(name, namespace).available_replicas > 0

    def is_healthy(self) -> bool:
        """Whether the gateway says that it is well. Raises GatewayUnreachable."""
        with self._gateway.exchange("GET", "/healthz", timeout_s=API_TIMEOUT_S) as answer:
            return answer.status == 200

    def _described(self, name: str, namespace: str, query: dict[str, str], ask_s: float) -> dict[str, Any]:
        path = f"/system/function/{quote(name, safe='')}"
        timeout_s = API_TIMEOUT_S + ask_s
        with self._known(name, namespace):
            found = self._gateway.manage(
                "GET", path, f"describe {name}", query=query | _in(namespace), timeout_s=timeout_s
            )
        return found if isinstance(found, dict) else {}

    def _wrote(self, name: str, namespace: str, since: float) -> tuple[str, ...]:
        """What a function wrote last, at least as far back as `since`. What cannot be had is not waited for."""
        instant = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since - 1))
        try:
            lines = self._gateway.logs(name, namespace=namespace, tail=_SHOWN_LINES, since=instant)
            return once([line.text.rstrip() for line in lines])
        except (GatewayRefused, UnknownFunction):
            return ()

    # ---- bundles

    def takes_bundles(self) -> bool:
        """Whether the gateway knows bundles, as Holdfast's does."""
        return self._bundles() is not None

    def has_bundle(self, image: BundleImage) -> bool:
        """Whether a bundle is there already. Raises NoBundlesTaken."""
        found = self._bundles()
        if found is None:
            raise NoBundlesTaken(self._gateway.url, image.name)
        return any(one.get("image") == str(image) for one in found)

    def _bundles(self) -> list[dict[str, Any]] | None:
        """What is there; None from a gateway that knows nothing of bundles."""
        try:
            return self._gateway.manage("GET", "/system/bundles", "list bundles") or []
        except GatewayRefused as error:
            if error.status in {404, 405}:
                return None
            raise

    def push(self, image: BundleImage, archive: Path, sent: Callable[[int], None]) -> Iterator[Step]:
        """Bring a bundle there; yields what is done with it, the first when all of it is sent, until it is ready.

        `sent` is told the number of bytes each time some are on their way. Raises BundleFailed.
        """
        with self._gateway.upload(
            "/system/bundles",
            f"take the bundle of {image.name}",
            _pieces(archive, sent),
            archive.stat().st_size,
            {"name": image.name},
            timeout_s=_INSTALL_SILENCE_S,
        ) as lines:
            status = ""
            for line in lines:
                status = str(line.get("status"))
                if status == "failed":
                    raise BundleFailed(self._gateway.url, image.name, str(line.get("error") or ""))
                yield Step(status, str(line.get("text") or ""))
        if status != "ready":
            raise BundleFailed(self._gateway.url, image.name, f"{image.name}: the gateway's answer broke off")

    # ---- secrets

    def secrets(self, namespace: str = "") -> list[str]:
        """Their names, sorted."""
        found = self._gateway.manage("GET", "/system/secrets", "list secrets", query=_in(namespace))
        return sorted(str(one["name"]) for one in found or [])

    def put_secret(self, name: str, namespace: str, value: str | bytes, *, update: bool) -> None:
        """Create a secret, or with `update` replace its value; bytes are sent as they are. Raises UnknownSecret."""
        document = {"name": name, "namespace": namespace or DEFAULT_NAMESPACE}
        document |= {"value": value} if isinstance(value, str) else {"rawValue": base64.b64encode(value).decode()}
        with self._known_secret(name, namespace, update=update):
            self._gateway.manage("PUT" if update else "POST", "/system/secrets", f"keep the secret {name}", document)

    def remove_secret(self, name: str, namespace: str = "") -> None:
        """Remove one. Raises UnknownSecret."""
        document = {"name": name, "namespace": namespace or DEFAULT_NAMESPACE}
        with self._known_secret(name, namespace, update=True):
            self._gateway.manage("DELETE", "/system/secrets", f"remove the secret {name}", document)

    # ---- namespaces

    def namespaces(self) -> list[str]:
        """Their names."""
        return [str(name) for name in self._gateway.manage("GET", "/system/namespaces", "list namespaces") or []]

    def namespace(self, name: str) -> dict[str, Any]:
        """One, as the gateway describes it."""
        return dict(self._gateway.manage("GET", _namespace(name), f"describe the namespace {name}") or {})

    def put_namespace(
        self, name: str, labels: Mapping[str, str], annotations: Mapping[str, str], *, update: bool
    ) -> None:
        """Create a namespace, or with `update` replace its labels and annotations."""
        document = {"name": name, "labels": dict(labels), "annotations": dict(annotations)}
        method, path = ("PUT", _namespace(name)) if update else ("POST", "/system/namespace/")
        self._gateway.manage(method, path, f"{'change' if update else 'create'} the namespace {name}", document)

    def remove_namespace(self, name: str) -> None:
        """Remove one that has no functions."""
        self._gateway.manage("DELETE", _namespace(name), f"remove the namespace {name}", {"name": name})

    # ---- what a 404 means

    def _known(self, name: str, namespace: str) -> _NotFound:
        return _NotFound(lambda: UnknownFunction(self._gateway.url, name, self._gateway.similar(name, namespace)))

    def _known_secret(self, name: str, namespace: str, *, update: bool) -> _NotFound:
        error = UnknownSecret(self._gateway.url, name, namespace or DEFAULT_NAMESPACE)
        return _NotFound((lambda: error) if update else None)


def once(lines: list[str]) -> tuple[str, ...]:
    """The lines without their first half, when that says the same as the second: a function that failed twice."""
    half = len(lines) // 2
    return tuple(lines[half:] if lines[:half] == lines[half:] else lines)


class _NotFound:
    """A context in which a 404 has a meaning; None leaves it as it is."""

    def __init__(self, meaning: Callable[[], Exception] | None) -> None:
        self._meaning = meaning

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._meaning is not None and isinstance(error, GatewayRefused) and error.status == 404:
            raise self._meaning() from None


def _in(namespace: str) -> dict[str, str]:
    return {"namespace": namespace} if namespace else {}


def _namespace(name: str) -> str:
    return f"/system/namespace/{quote(name, safe='')}"


def _pieces(archive: Path, sent: Callable[[int], None]) -> Iterator[bytes]:
    with archive.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
            sent(len(piece))
