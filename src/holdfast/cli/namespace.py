"""`namespaces` and `namespace`: groups of functions, in each of which a name may be used again."""

from __future__ import annotations

import json

import click

from holdfast.cli.command import Command, Group, gateway_option, output_option
from holdfast.cli.output import fields
from holdfast.cli.values import deployable_name, pair
from holdfast.client import find_credentials
from holdfast.client.administration import Administration
from holdfast.client.gateway import Gateway

_label = click.option(
    "-l", "--label", "labels", type=pair, multiple=True, metavar="KEY=VALUE", help="A label; may be given again."
)
_annotation = click.option(
    "--annotation", "annotations", type=pair, multiple=True, metavar="KEY=VALUE", help="The same for annotations."
)
_name = click.argument("name", type=deployable_name, metavar="NAME")


@click.command("namespaces", cls=Command, examples=[("their names, one a line", "holdfast namespaces")])
@gateway_option
@output_option
def namespaces(*, gateway: str, output: str) -> None:
    """List the namespaces."""
    _list(gateway, output)


def _list(gateway: str, output: str) -> None:
    with Gateway(gateway, find_credentials(gateway)) as client:
        names = Administration(client).namespaces()
    if output == "json":
        click.echo(json.dumps(names, indent=2))
    for name in names if output == "text" else ():
        click.echo(name)


@click.group("namespace", cls=Group)
def namespace() -> None:
    """Make, change and remove namespaces.

    A function of another namespace than the default one is called as NAME.NAMESPACE.
    """


@namespace.command(
    "create", cls=Command, examples=[("with a label", "holdfast namespace create staging --label team=payments")]
)
@_name
@_label
@_annotation
@gateway_option
def create(
    *, name: str, labels: tuple[tuple[str, str], ...], annotations: tuple[tuple[str, str], ...], gateway: str
) -> None:
    """Make a namespace."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        Administration(client).put_namespace(name, dict(labels), dict(annotations), update=False)
    click.echo(f"Created: {name}")


@namespace.command(
    "update",
    cls=Command,
    examples=[("these labels and no others", "holdfast namespace update staging -l team=billing")],
)
@_name
@_label
@_annotation
@gateway_option
def update(
    *, name: str, labels: tuple[tuple[str, str], ...], annotations: tuple[tuple[str, str], ...], gateway: str
) -> None:
    """Replace a namespace's labels and annotations."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        Administration(client).put_namespace(name, dict(labels), dict(annotations), update=True)
    click.echo(f"Updated: {name}")


@namespace.command(
    "remove", cls=Command, examples=[("one without functions; its secrets go too", "holdfast namespace remove staging")]
)
@_name
@gateway_option
def remove(*, name: str, gateway: str) -> None:
    """Remove a namespace."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        Administration(client).remove_namespace(name)
    click.echo(f"Removed: {name}")


@namespace.command("get", cls=Command, examples=[("its labels and annotations", "holdfast namespace get staging")])
@_name
@gateway_option
@output_option
def get(*, name: str, gateway: str, output: str) -> None:
    """Show a namespace."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        found = Administration(client).namespace(name)
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    texts = {
        key: {str(k): str(v) for k, v in (found.get(key.lower()) or {}).items()} for key in ("Labels", "Annotations")
    }
    for line in fields({"Name": name, **texts}):
        click.echo(line)


@namespace.command("list", cls=Command, examples=[("the same list", "holdfast namespace list")])
@gateway_option
@output_option
def list_(*, gateway: str, output: str) -> None:
    """List the namespaces."""
    _list(gateway, output)
