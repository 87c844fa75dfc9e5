"""What the API is sent: JSON documents of OpenFaaS into records, checked. No I/O.

Every refusal is a DeploymentError whose message says what was seen and what would work; the API answers it with 400.
Members that are not known are ignored, as OpenFaaS's providers do.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.errors import DeploymentError
from holdfast.function import DEPLOYABLE, FunctionRef
from holdfast.provider.bundles import Bundle
from holdfast.provider.deployments import process_of
from holdfast.provider.scaling import MOST_REPLICAS
from holdfast.quantity import is_quantity
from holdfast.queue_name import ANNOTATION as QUEUE
from holdfast.queue_name import problem_with
from holdfast.stack import Deployment, Resources

MOST_SECRET_BYTES = 1024 * 1024
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# RFC 1123 subdomain, which Kubernetes wants of a secret's name.
_SECRET_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Secret(NamedTuple):
    """A secret as sent: its place and its value, which is None when only the place counts."""

    namespace: str
    name: str
    value: bytes | None


class Namespace(NamedTuple):
    """A namespace with its texts."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def read_deployment(
    document: Any,
    *,
    namespace: str,
    folder: Path,
    samples: Mapping[str, Deployment],
    bundle: Callable[[str], Bundle | None] = lambda _image: None,
) -> Deployment:
    """A FunctionDeployment. Raises DeploymentError.

    `samples` are the functions that ship, by image; `bundle` gives the bundle that an image names, None for others, and
    may raise DeploymentError itself.
    """
    fields = _object(document, "")
    name = _text(fields, "service", "")
    if DEPLOYABLE.fullmatch(name) is None:
        raise DeploymentError(name, "service has to be a DNS label: 1 to 63 of a-z, 0-9 and -, no - at the ends")
    ref = FunctionRef(name, read_namespace_name(_text(fields, "namespace", name) or namespace))
    image, process = _text(fields, "image", name), _text(fields, "envProcess", name)
    if not image:
        raise DeploymentError(name, "image is missing; its name is shown, the command comes from envProcess")
    environment = _texts(fields, "envVars", name)
    for variable in environment:
        if _ENVIRONMENT_NAME.fullmatch(variable) is None:
            raise DeploymentError(name, f"envVars: {variable!r} cannot be the name of an environment variable")
    annotations = _texts(fields, "annotations", name)
    problem = problem_with(annotations[QUEUE]) if annotations.get(QUEUE) else None
    if problem is not None:
        raise DeploymentError(name, f"annotation {QUEUE}: {problem}")
    deployment = Deployment(
        ref,
        folder,
        image=image,
        process=process,
        environment=environment,
        labels=_texts(fields, "labels", name),
        annotations=annotations,
        secrets=tuple(_names(fields, "secrets", name)),
        constraints=tuple(_names(fields, "constraints", name)),
        limits=_resources(fields, "limits", name),
        requests=_resources(fields, "requests", name),
        read_only_root_filesystem=fields.get("readOnlyRootFilesystem") is True,
    )
    found = bundle(image)
    if found is not None:
        return _from_bundle(deployment, found)
    if process_of(deployment) or environment.get("mode") == "static":
        return deployment
    return _as_sample(deployment, samples)


def _from_bundle(deployment: Deployment, bundle: Bundle) -> Deployment:
    """An image that is a bundle: its language's handler, or the process, which then runs in the bundle's folder."""
    language = "" if process_of(deployment) else bundle.language
    return replace(deployment, folder=bundle.files, language=language, handler=bundle.files, packages=bundle.packages)


def _as_sample(deployment: Deployment, samples: Mapping[str, Deployment]) -> Deployment:
    """An image without a process: one of the functions that ship, else nothing that could be run here."""
    sample = samples.get(deployment.image)
    if sample is None:
        raise DeploymentError(
            deployment.ref.name,
            f"image {deployment.image!r} comes without envProcess, and images are not run here: give the command to "
            f"run, send its folder as a bundle (`holdfast up`), or take one of the images {', '.join(sorted(samples))}",
        )
    return Deployment(
        deployment.ref,
        sample.folder,
        language=sample.language,
        handler=sample.handler,
        image=deployment.image,
        process=sample.process,
        environment={**sample.environment, **deployment.environment},
        labels=deployment.labels,
        annotations=deployment.annotations,
        secrets=deployment.secrets,
        constraints=deployment.constraints,
        limits=deployment.limits,
        requests=deployment.requests,
        read_only_root_filesystem=deployment.read_only_root_filesystem,
    )


def read_reference(document: Any, key: str, namespace: str) -> FunctionRef:
    """The function that a document names under `key`; `namespace` unless it has one itself. Raises DeploymentError."""
    fields = _object(document, "")
    name = _text(fields, key, "")
    if not name:
        raise DeploymentError("", f"{key} is missing: the name of the function")
    return FunctionRef(name, _text(fields, "namespace", name) or namespace)


def read_replicas(document: Any) -> int:
    """The number in a ScaleServiceRequest. Raises DeploymentError."""
    fields = _object(document, "")
    if fields.get("replicas") is None:
        raise DeploymentError("", f"replicas is missing: a whole number from 0 to {MOST_REPLICAS}")
    replicas = fields["replicas"]
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas <= MOST_REPLICAS:
        raise DeploymentError("", f"replicas has to be a whole number from 0 to {MOST_REPLICAS}, not {replicas!r}")
    return replicas


def read_secret(document: Any, namespace: str, *, with_value: bool) -> Secret:
    """A Secret; its value is text in `value` or base64 in `rawValue`. Raises DeploymentError."""
    fields = _object(document, "")
    name = _text(fields, "name", "secret")
    if len(name) > 253 or _SECRET_NAME.fullmatch(name) is None:
        raise DeploymentError(name or "secret", "name has to be lower-case letters, digits, - and ., at most 253")
    place = read_namespace_name(_text(fields, "namespace", name) or namespace)
    if not with_value:
        return Secret(place, name, None)
    for key in ("value", "rawValue"):
        if not (fields.get(key) is None or _is_text(fields[key])):
            raise DeploymentError(name, f"{key} has to be a text")  # never with what it was
    try:
        raw = base64.b64decode(_text(fields, "rawValue", name), validate=True)
    except ValueError as error:  # binascii.Error is one, and so is what letters beyond ASCII give
        raise DeploymentError(name, f"rawValue is not base64: {error}") from error
    value = raw or _text(fields, "value", name).encode()
    if not value:
        raise DeploymentError(name, "value is missing or empty")
    if len(value) > MOST_SECRET_BYTES:
        raise DeploymentError(name, f"value is larger than {MOST_SECRET_BYTES} bytes")
    return Secret(place, name, value)


def read_namespace(document: Any, name: str) -> Namespace:
    """A namespace; `name` is that of the path, empty when only the document has it. Raises DeploymentError."""
    fields = _object(document, "")
    named = _text(fields, "name", "namespace")
    if name and named and name != named:
        raise DeploymentError(name, f"name in the body is {named!r}: leave it out or make it the same")
    return Namespace(
        read_namespace_name(name or named),
        _texts(fields, "labels", name),
        _texts(fields, "annotations", name),
    )


def read_namespace_name(name: str) -> str:
    """A namespace's name. Raises DeploymentError."""
    if DEPLOYABLE.fullmatch(name) is None:
        raise DeploymentError("namespace", f"{name[:100]!r} is not a DNS label: 1 to 63 of a-z, 0-9 and -")
    return name


def _object(document: Any, function: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise DeploymentError(function, f"the body has to be a JSON object, not {type(document).__name__}")
    return document


def _text(fields: Mapping[str, Any], key: str, function: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if not _is_text(value):
        raise DeploymentError(function, f"{key} has to be a text, not {value!r:.100}")
    return str(value)


def _is_text(value: Any) -> bool:
    """Whether it can be an environment variable, a label or a file: no NUL, and no half of a surrogate pair."""
    if not isinstance(value, str) or "\x00" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(fields: Mapping[str, Any], key: str, function: str) -> dict[str, str]:
    value = fields.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(_is_text(part) for pair in value.items() for part in pair):
        raise DeploymentError(function, f"{key} has to be an object of texts, not {value!r:.100}")
    return dict(value)


def _names(fields: Mapping[str, Any], key: str, function: str) -> list[str]:
    value = fields.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(_is_text(text) for text in value):
        raise DeploymentError(function, f"{key} has to be a list of texts, not {value!r:.100}")
    return value


def _resources(fields: Mapping[str, Any], key: str, function: str) -> Resources | None:
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise DeploymentError(function, f"{key} has to be an object with memory and cpu, not {value!r:.100}")
    for name in ("memory", "cpu"):
        quantity = value.get(name)
        if quantity is not None and not _is_text(quantity):
            raise DeploymentError(function, f'{key}.{name} has to be a text such as "128Mi", not {quantity!r:.100}')
        if quantity and not is_quantity(quantity):
            raise DeploymentError(function, f"{key}.{name} is {quantity!r}: expected a quantity such as 128Mi or 500m")
    return Resources(value.get("memory") or "", value.get("cpu") or "")
