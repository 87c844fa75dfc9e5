"""What should run: how a deployment becomes a watchdog's command and environment, and how the API shows it.

No I/O beyond a look at whether a handler's folder is there; what runs is in replicas.py.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.duration import format_duration
from holdfast.errors import DeploymentError, SettingError
from holdfast.provider.endings import LastError
from holdfast.provider.secrets import SECRETS_VARIABLE
from holdfast.settings import LogSettings, WatchdogSettings
from holdfast.stack import Deployment, Resources

# lang -> how its handler is called. The -debian templates differ in their image only.
HANDLER_STYLES = {
    "python3-http": "http",
    "python3-http-debian": "http",
    "python3": "classic",
    "python3-debian": "classic",
}

# What a function sees of this process's environment. Everything else stays here: credentials of NATS stand there, and
# settings with names that a watchdog reads too.
PASSED_ON = frozenset(
    {
        "HOME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LOGNAME",
        "PATH",
        "PYTHONPATH",
        "SHELL",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
    }
)


@dataclass(frozen=True, slots=True)
class Launch:
    """How one replica is started."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    cwd: Path


def launch(
    deployment: Deployment,
    instance: str,
    own_environ: Mapping[str, str],
    *,
    grace_period_s: float,
    secrets: Path | None = None,
) -> Launch:
    """Decide how a replica of a deployment is started; `secrets` is the folder of those it was given.

    Raises DeploymentError for what cannot run on this machine.
    """
    function = deployment.ref.name
    process = process_of(deployment)
    style = HANDLER_STYLES.get(deployment.language)
    if style is not None and process:
        raise DeploymentError(
            function,
            f"lang {deployment.language} runs handle() of the handler, so fprocess {process!r} would not be used: "
            "leave one of them out",
        )
    is_static = deployment.environment.get("mode") == "static"
    if style is None and not process and not is_static:
        languages = ", ".join(HANDLER_STYLES)
        raise DeploymentError(
            function,
            f"lang {deployment.language or 'none'} cannot be run here without fprocess: "
            f"expected fprocess, the command to start for each request, or one of the languages {languages}",
        )
    if is_static and not deployment.environment.get("static_path"):
        raise DeploymentError(function, "mode static needs static_path, the folder whose files are served")
    environ = {
        "grace_period": format_duration(grace_period_s),
        **passed_on(own_environ),
        **deployment.environment,
        "OPENFAAS_NAME": function,
        "OPENFAAS_NAMESPACE": deployment.ref.namespace,
        "HOSTNAME": instance,
    }
    if secrets is not None:
        environ[SECRETS_VARIABLE] = str(secrets)
    if style is not None:
        environ |= {"handler": str(_handler_folder(deployment)), "handler_style": style}
        if deployment.packages is not None:
            environ["handler_packages"] = str(deployment.packages)
    elif process:
        try:
            shlex.split(process)
        except ValueError as error:
            raise DeploymentError(function, f"the command {process!r:.200} cannot be read: {error}") from error
        environ["fprocess"] = process
        if deployment.packages is not None:
            # The `python3` of a command is the one that runs Holdfast; so it finds them.
            environ["PYTHONPATH"] = os.pathsep.join(
                filter(None, (str(deployment.packages), environ.get("PYTHONPATH", "")))
            )
    try:
        WatchdogSettings.from_environment(environ)
        LogSettings.from_environment(environ)
    except SettingError as error:
        raise DeploymentError(function, f"environment: {error}") from error
    runs_in_handler = deployment.handler is not None and deployment.handler.is_dir()
    # -P: a file of the function that is named like a module of the library must not take its place in the watchdog.
    argv = (sys.executable, "-P", "-m", "holdfast.watchdog")
    return Launch(argv, environ, deployment.handler if deployment.handler and runs_in_handler else deployment.folder)


def process_of(deployment: Deployment) -> str:
    """The command, which may stand in the environment under either of OpenFaaS's names; empty when there is none."""
    environment = deployment.environment
    return deployment.process or environment.get("fprocess", "") or environment.get("function_process", "")


def passed_on(own_environ: Mapping[str, str]) -> dict[str, str]:
    """The part of this process's environment that functions see; the interpreter that runs Holdfast first in PATH."""
    passed = {name: value for name, value in own_environ.items() if name in PASSED_ON or name.startswith("LC_")}
    interpreter_folder = str(Path(sys.executable).parent)
    passed["PATH"] = os.pathsep.join([interpreter_folder, passed.get("PATH", os.defpath)])
    return passed


def _handler_folder(deployment: Deployment) -> Path:
    folder = deployment.handler
    if folder is None:
        raise DeploymentError(
            deployment.ref.name, f"lang {deployment.language} needs handler, the folder of its handler.py"
        )
    if not (folder / "handler.py").is_file():
        raise DeploymentError(deployment.ref.name, f"handler {folder} has no handler.py")
    return folder


class Endpoint(NamedTuple):
    """Where a replica is called."""

    url: str
    local: str
    """The URL of its Unix socket; empty: it has none."""
    instance: str
    """Which replica it is, different at each start of the provider: requests name it."""


class Identity(NamedTuple):
    """Of a provider."""

    provider_id: str
    """The same for all its life."""
    host_id: str
    """Where its loopback addresses and Unix sockets mean something."""


def status(
    deployment: Deployment,
    *,
    identity: Identity,
    created_at: datetime,
    replicas: int,
    endpoints: Sequence[Endpoint],
    updated: int,
    restarts: int,
    last_error: LastError | None = None,
    warnings: tuple[str, ...] = (),
) -> dict[str, Any]:
    """OpenFaaS's FunctionStatus with members of ours.

    These are `endpoints`, the URLs of the ready replicas; `localEndpoints`, where each of them can be reached at less
    cost by who is on the same host; `instances`, the
    name of each, which requests to it carry; `hostId`, which host their loopback addresses and Unix sockets are of;
    `providerId`, which provider says so; `updatedReplicas`, how many of them are of the deployment as it is now, not of
    the one before; `restarts`, how often those have ended by themselves; `lastError`, how that was or why one is not
    ready, with what it wrote; `warnings`, what of the deployment is not done as it says.
    """
    shown: dict[str, Any] = {
        "name": deployment.ref.name,
        "namespace": deployment.ref.namespace,
        "image": deployment.image,
        "envProcess": deployment.process,
        "envVars": dict(deployment.environment),
        "constraints": list(deployment.constraints),
        "secrets": list(deployment.secrets),
        "labels": dict(deployment.labels),
        "annotations": dict(deployment.annotations),
        "readOnlyRootFilesystem": deployment.read_only_root_filesystem,
        # Gateways count invocations, each its own; the local runtime does not see them.
        "invocationCount": 0,
        "replicas": replicas,
        "availableReplicas": len(endpoints),
        "createdAt": created_at.isoformat().replace("+00:00", "Z"),
        "endpoints": [endpoint.url for endpoint in endpoints],
        "localEndpoints": [endpoint.local for endpoint in endpoints],
        "instances": [endpoint.instance for endpoint in endpoints],
        "hostId": identity.host_id,
        "providerId": identity.provider_id,
        "updatedReplicas": updated,
        "restarts": restarts,
    }
    if last_error is not None:
        shown["lastError"] = last_error.document()
    if warnings:
        shown["warnings"] = list(warnings)
    for name, resources in (("limits", deployment.limits), ("requests", deployment.requests)):
        if resources is not None:
            shown[name] = _given(resources)
    return shown


def _given(resources: Resources) -> dict[str, str]:
    return {name: value for name, value in asdict(resources).items() if value}
