"""What a command is to do with which functions, decided from a stack file and the command line.

Reads the stack file and looks whether folders are there; packing, sending and printing are left to the commands.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from holdfast.errors import DeploymentError
from holdfast.function import DEFAULT_NAMESPACE
from holdfast.provider.deployments import HANDLER_STYLES, process_of
from holdfast.stack import Deployment, Resources, Stack, read_stack

DEFAULT_FILES = ("stack.yaml", "stack.yml")


class Way(Enum):
    """How a function gets to the runtime."""

    BUNDLE = "its folder, as a bundle"
    AS_IT_IS = "nothing but its description"


_NOTHING = Resources()


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says about all functions of a command; it wins over the stack file."""

    namespace: str = ""
    process: str = ""
    environment: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None
    secrets: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    limits: Resources = _NOTHING
    requests: Resources = _NOTHING
    read_only: bool = False

    def over(self, deployment: Deployment) -> Deployment:
        """The deployment with what the command line says."""
        ref = deployment.ref
        return replace(
            deployment,
            ref=ref._replace(namespace=self.namespace or ref.namespace),
            process=self.process or deployment.process,
            environment={**deployment.environment, **(self.environment or {})},
            labels={**deployment.labels, **(self.labels or {})},
            annotations={**deployment.annotations, **(self.annotations or {})},
            secrets=tuple(dict.fromkeys((*deployment.secrets, *self.secrets))),
            constraints=tuple(dict.fromkeys((*deployment.constraints, *self.constraints))),
            limits=_over(deployment.limits, self.limits),
            requests=_over(deployment.requests, self.requests),
            read_only_root_filesystem=self.read_only or deployment.read_only_root_filesystem,
        )


def _over(described: Resources | None, given: Resources) -> Resources | None:
    described = described or Resources()
    both = Resources(given.memory or described.memory, given.cpu or described.cpu)
    return both if both.memory or both.cpu else None


def find_stack(given: str | None, folder: Path) -> Path | None:
    """The stack file: the one named, else the one that lies in `folder` under a usual name; None without either."""
    if given is not None:
        return Path(given)
    return next((folder / name for name in DEFAULT_FILES if (folder / name).is_file()), None)


def read_selected(path: Path, *, name: str = "", pattern: str = "", regex: str = "") -> Stack:
    """A stack with only the functions meant: of that name, or whose names match. Raises DeploymentError.

    `pattern` is a shell's (`fig*`), `regex` a regular expression, which compiles, found anywhere in the name.
    """
    stack = read_stack(path)
    expression = re.compile(regex)
    chosen = tuple(
        deployment
        for deployment in stack.deployments
        if (not name or deployment.ref.name == name)
        and (not pattern or fnmatchcase(deployment.ref.name, pattern))
        and expression.search(deployment.ref.name)
    )
    if not chosen:
        there = ", ".join(deployment.ref.name for deployment in stack.deployments)
        given = {"--name": name, "--filter": pattern, "--regex": regex}
        said = " and ".join(f"{option} {value}" for option, value in given.items() if value)
        raise DeploymentError(
            "", f"{path} has no function for {said}: it has {there}" if there else f"{path} describes no function"
        )
    return replace(stack, deployments=chosen)


def way(deployment: Deployment) -> Way:
    """How a function gets to the runtime. Raises DeploymentError when nothing would run there."""
    name, is_handler = deployment.ref.name, deployment.language in HANDLER_STYLES
    if deployment.skip_build:
        return Way.AS_IT_IS
    if is_handler and deployment.handler is None:
        raise DeploymentError(name, f"lang {deployment.language} needs handler, the folder of its handler.py")
    if deployment.handler is None:
        return Way.AS_IT_IS
    if not deployment.handler.is_dir():
        raise DeploymentError(name, f"handler {deployment.handler} is no folder")
    if is_handler and not (deployment.handler / "handler.py").is_file():
        raise DeploymentError(name, f"handler {deployment.handler} has no handler.py")
    if not is_handler and not process_of(deployment) and deployment.environment.get("mode") != "static":
        languages = ", ".join(HANDLER_STYLES)
        raise DeploymentError(
            name,
            f"lang {deployment.language or 'none'} is not built here: give fprocess, the command to run in its folder, "
            f"one of the languages {languages}, or skip_build: true to deploy the image that it names",
        )
    return Way.BUNDLE


def left_behind(deployment: Deployment) -> str | None:
    """A file or folder beside the stack file that the function names, and that nothing brings to the runtime."""
    if deployment.handler is not None or deployment.skip_build:
        return None
    named = [deployment.environment.get("static_path", "")]
    with suppress(ValueError):  # quotes that do not match are the runtime's to refuse
        named += shlex.split(process_of(deployment))[:1]
    beside = (name for name in named if "/" in name and not name.startswith("/"))
    return next((name for name in beside if (deployment.folder / name).exists()), None)


def document(deployment: Deployment, image: str) -> dict[str, Any]:
    """OpenFaaS's FunctionDeployment, empty members left out. No I/O."""
    ref = deployment.ref
    return {
        "service": ref.name,
        "image": image or deployment.image or f"{ref.name}:latest",
        **_given(
            namespace="" if ref.namespace == DEFAULT_NAMESPACE else ref.namespace,
            envProcess=deployment.process,
            envVars=dict(deployment.environment),
            labels=dict(deployment.labels),
            annotations=dict(deployment.annotations),
            secrets=list(deployment.secrets),
            constraints=list(deployment.constraints),
            limits=_resources(deployment.limits),
            requests=_resources(deployment.requests),
            readOnlyRootFilesystem=deployment.read_only_root_filesystem,
        ),
    }


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _resources(resources: Resources | None) -> dict[str, str]:
    return _given(**asdict(resources)) if resources is not None else {}
