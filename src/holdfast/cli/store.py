"""`store`: the functions that ship with Holdfast, to try things out with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import holdfast
from holdfast.cli import work
from holdfast.cli.command import Command, Group, gateway_option, namespace_option, output_option
from holdfast.cli.listing import print_table
from holdfast.cli.output import fields
from holdfast.cli.plan import Overrides
from holdfast.cli.values import deployable_name, duration, pair
from holdfast.client import find_credentials
from holdfast.client.gateway import Gateway
from holdfast.stack import Deployment, read_stack

SAMPLES = Path(holdfast.__file__).parent / "samples" / "stack.yml"

# One line each; a test compares the names with those of the samples' stack file.
DESCRIPTIONS = {
    "figlet": "Draws its body as a banner.",
    "env": "Shows the environment that a command gets, the request in it.",
    "echo": "Answers its body.",
    "sleep": "Takes two seconds, or what ?duration=1m or X-Sleep: 250ms says.",
    "chaos": "Answers what it is told: ?status=503&delay=1s.",
}


@click.group("store", cls=Group)
def store() -> None:
    """Deploy the functions that ship with Holdfast.

    A server that is started without a stack file has them all already.
    """


@store.command("list", cls=Command, examples=[("what there is", "holdfast store list")])
@output_option
def list_(*, output: str) -> None:
    """List the functions."""
    samples = _samples()
    if output == "json":
        click.echo(json.dumps([_described(sample) for sample in samples.values()], indent=2))
        return
    print_table(["Function", "Description"], [[name, DESCRIPTIONS[name]] for name in samples])


@store.command("inspect", cls=Command, examples=[("one of them", "holdfast store inspect figlet")])
@click.argument("name", type=click.Choice(list(DESCRIPTIONS)), metavar="NAME")
@output_option
def inspect(*, name: str, output: str) -> None:
    """Show what a function is."""
    described = _described(_samples()[name])
    if output == "json":
        click.echo(json.dumps(described, indent=2))
        return
    for line in fields({key.capitalize(): value for key, value in described.items()}):
        click.echo(line)


@store.command(
    "deploy",
    cls=Command,
    examples=[
        ("under its own name", "holdfast store deploy figlet"),
        ("under another, with a variable", "holdfast store deploy sleep --name nap --env SLEEP=5s"),
    ],
)
@click.argument("name", type=click.Choice(list(DESCRIPTIONS)), metavar="NAME")
@click.option("--name", "as_name", type=deployable_name, default="", metavar="NAME", help="Deploy it under this name.")
@click.option("-e", "--env", type=pair, multiple=True, metavar="KEY=VALUE", help="A variable; may be given again.")
@click.option("-l", "--label", "labels", type=pair, multiple=True, metavar="KEY=VALUE", help="A label, the same way.")
@click.option(
    "--timeout",
    type=duration,
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="Longest time to wait until it is ready.",
)
@gateway_option
@namespace_option
@output_option
def deploy(
    *,
    name: str,
    as_name: str,
    env: tuple[tuple[str, str], ...],
    labels: tuple[tuple[str, str], ...],
    timeout: float,
    gateway: str,
    namespace: str,
    output: str,
) -> None:
    """Deploy a function and wait until it is ready."""
    sample = _samples()[name]
    # The image alone: what it means, the runtime knows better.
    chosen = Deployment(sample.ref._replace(name=as_name or name), Path.cwd(), image=sample.image)
    chosen = Overrides(namespace=namespace, environment=dict(env), labels=dict(labels)).over(chosen)
    with Gateway(gateway, find_credentials(gateway)) as client:
        work.show([work.deploy(client, chosen, "", wait_s=timeout)], output)


def _samples() -> dict[str, Deployment]:
    return {sample.ref.name: sample for sample in read_stack(SAMPLES, {}).deployments}


def _described(sample: Deployment) -> dict[str, Any]:
    return {
        "name": sample.ref.name,
        "description": DESCRIPTIONS[sample.ref.name],
        "image": sample.image,
        "lang": sample.language,
        "process": sample.process,
        "environment": dict(sample.environment),
    }
