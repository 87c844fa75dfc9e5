"""`remove`, `scale` and `ready`: what is done with functions that are deployed."""

from __future__ import annotations

import time

import click

from holdfast.cli import work
from holdfast.cli.command import (
    Command,
    gateway_option,
    name_argument,
    names_argument,
    namespace_option,
    optional_name_argument,
    stack_options,
)
from holdfast.cli.exits import Exit
from holdfast.cli.progress import say
from holdfast.cli.values import duration, split_name
from holdfast.client import find_credentials
from holdfast.client.administration import Administration
from holdfast.client.errors import GatewayRefused, GatewayUnreachable, UnknownFunction
from holdfast.client.gateway import Gateway
from holdfast.function import DEFAULT_NAMESPACE, FunctionRef
from holdfast.stack import Stack


@click.command(
    "remove",
    cls=Command,
    examples=[
        ("one function", "holdfast remove figlet"),
        ("all functions of a stack file", "holdfast remove -f stack.yml"),
    ],
)
@names_argument
@stack_options
@gateway_option
@namespace_option
def remove(*, names: tuple[str, ...], yaml: str | None, filter_: str, regex: str, gateway: str, namespace: str) -> Exit:
    """Remove functions.

    Those that are named, else those of the stack file. What they run is finished. Their secrets stay.
    """
    stack: Stack | None = None
    if names:
        if yaml or filter_ or regex:
            raise click.UsageError("give names or a stack file with -f, not both")
        refs = [FunctionRef(*split_name(name, namespace)) for name in names]
    else:
        stack = work.Selection(yaml, "", filter_, regex).read()
        refs = [deployment.ref for deployment in stack.deployments]
        refs = [FunctionRef(ref.name, namespace or _asked(ref.namespace)) for ref in refs]
    gateway = work.gateway_for(stack, gateway)
    with Gateway(gateway, find_credentials(gateway)) as client:

        def one(ref: FunctionRef) -> None:
            Administration(client).remove(ref.name, ref.namespace)
            click.echo(f"Removed: {ref.name}")

        return work.each(refs, one)


def _asked(namespace: str) -> str:
    """A stack's namespace as it is sent: the default one is the gateway's to choose."""
    return "" if namespace == DEFAULT_NAMESPACE else namespace


@click.command(
    "scale",
    cls=Command,
    examples=[
        ("three replicas", "holdfast scale figlet --replicas 3"),
        ("none, until the next call", "holdfast scale figlet --replicas 0"),
    ],
)
@name_argument
@click.option("--replicas", type=click.IntRange(min=0), required=True, metavar="N", help="How many there should be.")
@gateway_option
@namespace_option
def scale(*, name: str, replicas: int, gateway: str, namespace: str) -> None:
    """Set the number of a function's replicas.

    Replicas that are too many finish what they run. A function at zero is started by its next call.
    """
    name, namespace = split_name(name, namespace)
    with Gateway(gateway, find_credentials(gateway)) as client:
        Administration(client).scale(name, replicas, namespace)
    click.echo(f"Scaling {name} to {replicas}")


@click.command(
    "ready",
    cls=Command,
    examples=[
        ("the gateway, for a script that has just started it", "holdfast ready"),
        ("a function, asked ten times", "holdfast ready figlet --attempts 10"),
    ],
)
@optional_name_argument
@click.option(
    "--attempts", type=click.IntRange(min=1), default=60, show_default=True, metavar="N", help="How often to ask."
)
@click.option(
    "--interval", type=duration, default="1s", show_default=True, metavar="DURATION", help="Pause between two times."
)
@gateway_option
@namespace_option
def ready(*, name: str | None, attempts: int, interval: float, gateway: str, namespace: str) -> Exit:
    """Wait until the gateway or a function is ready.

    The exit code is 0 as soon as it is, and 9 when it was not at the last attempt.
    """
    what = name or f"the gateway at {gateway}"
    with Gateway(gateway, find_credentials(gateway)) as client:
        for attempt in range(attempts):
            if attempt:
                time.sleep(interval)  # a pause that was asked for, between two questions to somebody else
            state = _state(Administration(client), name, namespace)
            if not state:
                click.echo(f"{what} is ready")
                return Exit.DONE
            say(f"[{attempt + 1}/{attempts}] {what} is not ready: {state}")
    return Exit.NOT_READY


def _state(administration: Administration, name: str | None, namespace: str) -> str:
    """Why it is not ready; empty when it is."""
    try:
        if name:
            is_ready = administration.is_ready(*split_name(name, namespace))
            return "" if is_ready else "no replica is ready"
        return "" if administration.is_healthy() else "it says that it is not well"
    except (GatewayUnreachable, GatewayRefused, UnknownFunction) as error:
        return str(error)
