"""`queue`: what waits in the queues, holding a queue, and emptying it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from holdfast.cli.command import Command, Group, complete_queue, function_option, gateway_option, output_option
from holdfast.cli.listing import print_table
from holdfast.cli.output import fields, span
from holdfast.cli.values import duration
from holdfast.client import find_credentials
from holdfast.client.gateway import Gateway
from holdfast.client.queues import Queues

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@click.group("queue", cls=Group)
def queue() -> None:
    """Look at queues, hold them and empty them.

    A queue is where asynchronous calls wait for workers. A function's annotation com.openfaas.queue names its queue;
    without one it is the default queue, faas-request.
    """


def _name_argument(function: Decorated) -> Decorated:
    return click.argument("name", metavar="NAME", shell_complete=complete_queue)(function)


@queue.command(
    "list",
    cls=Command,
    examples=[("all queues", "holdfast queue list"), ("for a script", "holdfast queue list --output json")],
)
@gateway_option
@output_option
def list_(*, gateway: str, output: str) -> None:
    """List the queues with what waits in them and who takes it out."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        queues = Queues(client).all()
    if output == "json":
        click.echo(json.dumps(queues, indent=2))
        return
    print_table(_HEADING, [_row(one) for one in queues], right=frozenset({1, 2, 3, 4, 5}))


@queue.command(
    "show",
    cls=Command,
    examples=[("what waits in it, and for which functions", "holdfast queue show faas-request")],
)
@_name_argument
@gateway_option
@output_option
def show(*, name: str, gateway: str, output: str) -> None:
    """Show a queue: what waits in it, how long, for which functions."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        _print(Queues(client).show(name), output)


@queue.command(
    "pause",
    cls=Command,
    examples=[
        ("until it is resumed", "holdfast queue pause slow"),
        ("for the time of a repair", "holdfast queue pause slow --for 10m"),
    ],
)
@_name_argument
@click.option("--for", "for_", type=duration, metavar="DURATION", help="Go on by itself after so long.")
@gateway_option
@output_option
def pause(*, name: str, for_: float | None, gateway: str, output: str) -> None:
    """Hand out no more of a queue's calls.

    Calls are accepted and kept; those that workers have taken are finished.
    """
    with Gateway(gateway, find_credentials(gateway)) as client:
        _print(Queues(client).pause(name, for_), output)


@queue.command("resume", cls=Command, examples=[("go on", "holdfast queue resume slow")])
@_name_argument
@gateway_option
@output_option
def resume(*, name: str, gateway: str, output: str) -> None:
    """Hand out a queue's calls again."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        _print(Queues(client).resume(name), output)


@queue.command(
    "purge",
    cls=Command,
    examples=[
        ("what waits for one function", "holdfast queue purge slow --function resize"),
        ("all that waits", "holdfast queue purge slow --all"),
    ],
)
@_name_argument
@function_option("Only calls of this function, NAME or NAME.NAMESPACE.")
@click.option("--all", "all_", is_flag=True, help="Calls of all functions.")
@gateway_option
@output_option
def purge(*, name: str, function: str, all_: bool, gateway: str, output: str) -> None:
    """Cancel the calls that wait in a queue.

    Each keeps a record that says so; nobody is called back. Calls that are being run go on. Nothing is done without
    --function or --all.
    """
    if bool(function) == all_:
        raise click.UsageError("say which calls: --function NAME, or --all")
    with Gateway(gateway, find_credentials(gateway)) as client:
        purged = Queues(client).purge(name, function)
    calls = "call" if purged == 1 else "calls"
    click.echo(json.dumps({"purged": purged}) if output == "json" else f"Cancelled: {purged} {calls} of {name}")


def names_for_completion(gateway: str) -> list[str]:
    """The queues' names. Raises GatewayError."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        return [str(found.get("name")) for found in Queues(client).all()]


_HEADING = ("Queue", "Waiting", "Scheduled", "Running", "Oldest", "Workers", "Paused")


def _row(found: Mapping[str, Any]) -> list[str]:
    return [
        str(found.get("name")),
        *(str(found.get(member)) for member in ("waiting", "scheduled", "running")),
        _oldest(found),
        str(found.get("workers")),
        _paused(found),
    ]


def _oldest(found: Mapping[str, Any]) -> str:
    age = found.get("oldest_age_seconds")
    return "" if age is None else span(float(age))


def _paused(found: Mapping[str, Any]) -> str:
    if not found.get("paused"):
        return "no"
    until = found.get("paused_until")
    return f"until {until}" if until else "until resumed"


def _print(found: Mapping[str, Any], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    workers = found.get("workers")
    description: dict[str, str | dict[str, str]] = {
        "Queue": str(found.get("name")),
        "Waiting": str(found.get("waiting")),
        "Oldest": _oldest(found),
        "Scheduled": str(found.get("scheduled")),
        "Running": str(found.get("running")),
        "Paused": _paused(found),
        "Workers": f"{workers}, {found.get('max_inflight')} calls at once" if workers else "none",
        "Functions": {str(one["function"]): f"{one['waiting']} waiting" for one in found.get("functions") or []},
    }
    for line in fields(description):
        click.echo(line)
