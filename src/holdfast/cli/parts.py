"""`serve`, `gateway`, `worker`, `provider` and `watchdog`: commands that start something and stay.

Settings are read here and handed over; each part's own module, loaded only to be run, knows the rest. A part that is
asked to stop (Ctrl-C or SIGTERM) stops in order and exits 0; asked a second time it ends at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import click

from holdfast.cli.command import Command
from holdfast.cli.values import host as host_to_listen_on
from holdfast.cli.values import nats_servers, queue_and_slots
from holdfast.errors import SettingError
from holdfast.settings import (
    GatewaySettings,
    LogSettings,
    NatsSettings,
    ProviderSettings,
    WatchdogSettings,
    WorkerSettings,
)

# What `serve` tells its parts itself: what the environment says of these does not matter.
_GIVEN_BY_SERVE = frozenset({"gateway_url", "functions_provider_url", "nats_url", "provider_data"})


@click.command(
    "serve",
    cls=Command,
    settings=[LogSettings],
    examples=[
        ("everything, with the functions that ship", "holdfast serve"),
        ("your own functions", "holdfast serve --stack stack.yml"),
        ("four workers of 16 calls each, on another port", "holdfast serve --port 9000 --workers 4 --max-inflight 16"),
        ("slow functions in a queue of their own, four at once", "holdfast serve --queue slow=4"),
        ("a NATS cluster instead of the embedded server", "holdfast serve --nats nats://a:4222,nats://b:4222"),
        ("on any free port, told to a script", "holdfast serve --port 0 --metrics-port 0 --ready-file ready.json"),
    ],
)
@click.option(
    "--host",
    type=host_to_listen_on,
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address the gateway listens on.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    default=8080,
    show_default=True,
    help="Port the gateway listens on; 0: any free one, which is printed.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    default=8082,
    show_default=True,
    help="Port for /metrics and /healthz; 0: any free one.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    envvar="HOLDFAST_DATA",
    show_envvar=True,
    help="Folder for all state: calls, functions, passwords. Default: holdfast in the user's data folder.",
)
@click.option(
    "--stack",
    type=click.Path(exists=True, dir_okay=False),
    help="The stack.yml with the functions. Default: the samples that ship.",
)
@click.option(
    "--nats",
    type=nats_servers,
    metavar="URL",
    help="Use this NATS server, or these, comma separated, instead of starting one.",
)
@click.option(
    "--durability",
    type=click.Choice(["disk", "os"]),
    default="disk",
    show_default=True,
    help="What a 202 has survived: disk: a power cut; os: the death of any process. Not with --nats.",
)
@click.option(
    "--gateways", type=click.IntRange(min=1), metavar="N", default=1, show_default=True, help="Gateway processes."
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    default=1,
    show_default=True,
    help="Worker processes; 0: calls are accepted and kept, and run when there is a worker.",
)
@click.option(
    "--max-inflight",
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=64,
    show_default=True,
    help="Calls each worker runs at once.",
)
@click.option(
    "--queue",
    "queues",
    type=queue_and_slots,
    metavar="NAME[=N]",
    multiple=True,
    help="Run the calls of this queue too, N at once; without N as many as --max-inflight. Repeatable.",
)
@click.option(
    "--no-auth",
    is_flag=True,
    help="Leave /system open: who reaches the port can run commands.",
)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Written when all parts are ready: a JSON object with their URLs.",
)
def serve(
    *,
    host: str,
    port: int,
    metrics_port: int,
    data: Path | None,
    stack: str | None,
    nats: str | None,
    durability: Literal["disk", "os"],
    gateways: int,
    workers: int,
    max_inflight: int,
    queues: tuple[tuple[str, int | None], ...],
    no_auth: bool,
    ready_file: Path | None,
) -> int:
    """Run everything on this machine until Ctrl-C.

    Starts a NATS server, a gateway, a worker and the local function runtime, each a process of its own, and starts
    again what dies. State lives in one folder. A user and password for /system are made at the first start.
    """
    _check_settings()
    _check_queues([name for name, _ in queues])
    from holdfast.serve import QueueWorker, ServeOptions, run  # noqa: PLC0415 - loaded to be run, not for --help

    return run(
        ServeOptions(
            host=host,
            port=port,
            metrics_port=metrics_port,
            data=_data_folder(data),
            stack=stack,
            nats=nats,
            durability=durability,
            gateways=gateways,
            workers=workers,
            max_inflight=max_inflight,
            queues=tuple(QueueWorker(*queue) for queue in queues),
            auth=not no_auth,
            ready_file=ready_file,
        )
    )


def _check_settings() -> None:
    """Read what the parts will read, so that it is refused once and before anything starts. Raises SettingError."""
    given = {name: value for name, value in os.environ.items() if name not in _GIVEN_BY_SERVE}
    for record in (GatewaySettings, WorkerSettings, ProviderSettings, NatsSettings):
        record.from_environment(given)
    from holdfast.callback_guard import CallbackGuard  # noqa: PLC0415 - loaded to be run, not for --help

    CallbackGuard(GatewaySettings.from_environment(given).callback_allow)


def _check_queues(names: list[str]) -> None:
    """The queues of --queue: once each and none of them the default one. Raises click.UsageError."""
    default = GatewaySettings.from_environment().queue
    for name in names:
        if name == default:
            raise click.UsageError(
                f"--queue {name}: it is the default queue, whose workers are set by --workers and --max-inflight."
            )
        if names.count(name) > 1:
            raise click.UsageError(f"--queue {name} is given more than once: give each queue one number.")


def _data_folder(named: Path | None) -> Path:
    if named is not None:
        return named
    from holdfast.user_folders import data_folder  # noqa: PLC0415 - needed only here

    folder = data_folder()
    if folder is None:
        raise SettingError("HOME", os.environ.get("HOME", ""), "the user's home folder; or name a folder with --data")
    return folder


@click.command(
    "gateway",
    cls=Command,
    settings=[GatewaySettings, NatsSettings, LogSettings],
    examples=[("beside a NATS server on another machine", "nats_url=nats://10.0.0.5:4222 holdfast gateway")],
)
def gateway() -> int:
    """Run one gateway.

    Answers /function and /async-function. Any number may run: they share nothing but NATS and the provider.
    """
    settings = GatewaySettings.from_environment()
    nats, logs = NatsSettings.from_environment(), LogSettings.from_environment()

    from holdfast.gateway.app import run  # noqa: PLC0415 - loaded to be run, not for --help

    return run(settings, nats, logs)


@click.command(
    "worker",
    cls=Command,
    settings=[WorkerSettings, NatsSettings, LogSettings],
    examples=[
        ("four calls at once of the queue slow", "holdfast worker --queue slow --max-inflight 4"),
        ("16 calls at once, each for up to an hour", "max_inflight=16 upstream_timeout=1h holdfast worker"),
    ],
)
@click.option("--queue", metavar="NAME", help="The queue to take calls from; instead of queue_name.")
@click.option(
    "--max-inflight", type=click.IntRange(1, 10_000), metavar="N", help="Calls run at once; instead of max_inflight."
)
def worker(queue: str | None, max_inflight: int | None) -> int:
    """Run one queue-worker.

    Takes calls from a queue, runs them and sends the callbacks. Any number may share a queue.
    """
    given = {"queue_name": queue, "max_inflight": None if max_inflight is None else str(max_inflight)}
    settings = WorkerSettings.from_environment(
        {**os.environ, **{name: value for name, value in given.items() if value is not None}}
    )
    nats, logs = NatsSettings.from_environment(), LogSettings.from_environment()

    from holdfast.worker.app import run  # noqa: PLC0415 - loaded to be run, not for --help

    return run(settings, nats, logs)


@click.command(
    "provider",
    cls=Command,
    settings=[ProviderSettings, LogSettings],
    examples=[("the functions of a stack", "stack=stack.yml holdfast provider")],
)
def provider() -> int:
    """Run the local function runtime.

    Runs the functions of a stack.yml as processes on this machine and speaks OpenFaaS's provider API.
    """
    settings, logs = ProviderSettings.from_environment(), LogSettings.from_environment()

    from holdfast.provider.app import run  # noqa: PLC0415 - loaded to be run, not for --help

    return run(settings, logs)


@click.command(
    "watchdog",
    cls=Command,
    settings=[WatchdogSettings, LogSettings],
    examples=[
        ("a command as an HTTP service", "fprocess='wc -c' port=9001 holdfast watchdog"),
        ("a Python handler", "handler=./greet port=9001 holdfast watchdog"),
    ],
)
def watchdog() -> int:
    """Run the HTTP server in front of one function.

    The provider starts one per replica. Started by hand it lets a function be tried alone.
    """
    settings, logs = WatchdogSettings.from_environment(), LogSettings.from_environment()

    from holdfast.watchdog.app import run  # noqa: PLC0415 - loaded to be run, not for --help

    return run(settings, logs)
