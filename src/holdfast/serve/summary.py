"""What `holdfast serve` prints once it is ready: where to call, where the password is, what to try."""

from __future__ import annotations

from typing import NamedTuple

from holdfast import __version__, sockets, telemetry
from holdfast.guard import open_to_all
from holdfast.serve.data_folder import USER, DataFolder
from holdfast.serve.options import ServeOptions
from holdfast.serve.parts import Listening


class Urls(NamedTuple):
    """Where the parts are."""

    gateway: str
    metrics: str
    provider: str
    nats: str


def show(urls: Urls, options: ServeOptions, folder: DataFolder, listening: Listening) -> None:
    """Print to standard output; nobody need read it."""
    [gateway, *_] = listening.gateways
    lines = [
        f"Holdfast {__version__} is ready.",
        f"  call       {urls.gateway}/async-function/NAME (202, then the callback) or {urls.gateway}/function/NAME",
        f"  metrics    {urls.metrics}/metrics",
        f"  data       {folder.root}",
    ]
    if sockets.is_everywhere(gateway):
        bound, metrics = sockets.bound_url(gateway), sockets.bound_url(listening.metrics)
        lines.insert(1, f"  listens on {bound}, metrics on {metrics}: every address of this machine")
    if options.queues:
        further = ", ".join(f"{name} ({slots or options.max_inflight} at once)" for name, slots in options.queues)
        lines.append(f"  queues     {further}, beside the default one")
    if options.auth:
        lines.append(f"  password   of user {USER}: cat {folder.password_file}")
    elif not sockets.is_loopback(gateway):
        lines.append(f"  OPEN       {open_to_all(gateway)}")
    named = "" if urls.gateway.endswith(":8080") else f"-g {urls.gateway} "
    lines.append(f"  try        echo Hi | faas invoke {named}figlet")
    lines.append("Ctrl-C stops it.")
    telemetry.say("\n".join(lines), "serve")
