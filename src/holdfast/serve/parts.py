"""The processes of `holdfast serve`: for each its command, environment, sockets and how long it may take to end.

Decides only; starting and watching is left to run.py.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass, field

from holdfast import sockets
from holdfast.callback_guard import LOOPBACK, PORTS
from holdfast.gateway import LISTEN_FD as GATEWAY_FD
from holdfast.gateway import METRICS_FD
from holdfast.provider import LISTEN_FD as PROVIDER_FD
from holdfast.serve.data_folder import DataFolder
from holdfast.serve.options import ServeOptions
from holdfast.settings import ProviderSettings
from holdfast.worker import LISTEN_FD as WORKER_FD

GRACE_S = 15.0
WORKER_GRACE_S = 40.0
# Longer than the worker's own grace_period, so that it can hand back what did not finish.


@dataclass(frozen=True, slots=True)
class Part:
    """One process that is kept running."""

    name: str
    argv: list[str]
    environ: dict[str, str] = field(default_factory=dict)
    """What its environment has beyond ours."""
    defaults: dict[str, str] = field(default_factory=dict)
    """What its environment has where ours has nothing."""
    sockets: tuple[socket.socket, ...] = ()
    health: str | None = None
    """URL that answers 200 once the part is ready."""
    grace_s: float = GRACE_S


@dataclass(frozen=True, slots=True)
class Listening:
    """The sockets that outlive the processes behind them."""

    gateways: list[socket.socket]
    metrics: socket.socket
    provider: socket.socket
    workers: list[socket.socket]
    queues: list[socket.socket]
    """Of the workers of further queues, in the order of the options."""

    @classmethod
    def open(cls, options: ServeOptions) -> Listening:
        """Bind all. Raises StartError that names the option to change when a port is taken."""
        return cls(
            gateways=sockets.listen_shared(
                options.host, options.port, options.gateways, purpose="gateway", option="--port"
            ),
            metrics=sockets.listen(options.host, options.metrics_port, purpose="metrics", option="--metrics-port"),
            provider=_provider(),
            workers=[_internal("worker's health") for _ in range(options.workers)],
            queues=[_internal("worker's health") for _ in options.queues],
        )

    @property
    def gateway_url(self) -> str:
        """Where callers on this machine reach the gateways."""
        return sockets.url_of(self.gateways[0])

    @property
    def inner(self) -> list[socket.socket]:
        """Those that are not for callers, nor for callbacks."""
        return [self.metrics, self.provider, *self.workers, *self.queues]


def _provider() -> socket.socket:
    """On loopback and any free port, unless the provider's own settings name an address for other hosts to call."""
    given = {name: value for name, value in os.environ.items() if value}
    settings = ProviderSettings.from_environment({"provider_port": "0", **given})
    return sockets.listen(settings.host, settings.port, purpose="function runtime", option="provider_port")


def _internal(purpose: str) -> socket.socket:
    return sockets.listen("127.0.0.1", 0, purpose=purpose, option="nothing: the system has no free port")


def _python(part: str) -> list[str]:
    return [sys.executable, "-m", "holdfast", part]


def _descriptor(sock: socket.socket) -> str:
    return str(sock.fileno())


def provider(options: ServeOptions, folder: DataFolder, listening: Listening) -> Part:
    """The local function runtime. It always wants a password: what it takes are commands to run."""
    return Part(
        "provider",
        _python("provider"),
        {
            PROVIDER_FD: _descriptor(listening.provider),
            "provider_data": str(folder.provider),
            "stack": options.stack or "",
            "gateway_url": listening.gateway_url,
            "basic_auth": "true",
            "secret_mount_path": str(folder.secrets),
        },
        sockets=(listening.provider,),
        health=sockets.url_of(listening.provider) + "/healthz",
    )


def gateways(options: ServeOptions, folder: DataFolder, listening: Listening, nats_url: str) -> list[Part]:
    """The gateways, each with a socket of its own on the one port; they share the one for metrics."""
    return [
        Part(
            "gateway",
            _python("gateway"),
            {
                GATEWAY_FD: _descriptor(sock),
                METRICS_FD: _descriptor(listening.metrics),
                **_shared(options, folder, listening, nats_url),
            },
            {**_callbacks(listening), **_commits(options)},
            (sock, listening.metrics),
            sockets.url_of(sock) + "/healthz",
        )
        for sock in listening.gateways
    ]


def _commits(options: ServeOptions) -> dict[str, str]:
    # Whether somebody else's server syncs each write is its operator's to say.
    return {"group_commit": "true"} if options.durability == "disk" and not options.nats else {}


def workers(options: ServeOptions, folder: DataFolder, listening: Listening, nats_url: str) -> list[Part]:
    """The workers of the default queue, and one for each further queue."""

    def worker(sock: socket.socket, name: str, environ: dict[str, str]) -> Part:
        return Part(
            name,
            _python("worker"),
            {
                WORKER_FD: _descriptor(sock),
                "gateway_url": listening.gateway_url,
                **environ,
                **_shared(options, folder, listening, nats_url),
            },
            _callbacks(listening),
            (sock,),
            sockets.url_of(sock) + "/healthz",
            WORKER_GRACE_S,
        )

    default = [worker(sock, "worker", {"max_inflight": str(options.max_inflight)}) for sock in listening.workers]
    further = [
        worker(
            sock,
            f"worker of {one.queue}",
            {"queue_name": one.queue, "max_inflight": str(one.max_inflight or options.max_inflight)},
        )
        for sock, one in zip(listening.queues, options.queues, strict=True)
    ]
    return default + further


def _shared(options: ServeOptions, folder: DataFolder, listening: Listening, nats_url: str) -> dict[str, str]:
    return {
        "nats_url": nats_url,
        # The embedded server comes back: for ever is the right patience with it.
        "faas_max_reconnect": "0",
        "functions_provider_url": sockets.url_of(listening.provider),
        "PROMETHEUS_MULTIPROC_DIR": str(folder.metrics),
        PORTS: ",".join(str(sockets.port_of(sock)) for sock in listening.inner),
        "basic_auth": "true" if options.auth else "false",
        "secret_mount_path": str(folder.secrets),
        # With --no-auth too: only people do without a password.
        "provider_secret_mount_path": str(folder.secrets),
    }


def _callbacks(listening: Listening) -> dict[str, str]:
    """Who can only be called from this machine may call back to it, as in OpenFaaS's example with nc."""
    return {"callback_allow": LOOPBACK} if sockets.is_loopback(listening.gateways[0]) else {}
