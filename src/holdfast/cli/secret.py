"""`secret`: values that functions read as files, which nobody is ever shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from holdfast.cli.command import Command, Group, gateway_option, namespace_option, output_option, secret_argument
from holdfast.client import find_credentials
from holdfast.client.administration import Administration
from holdfast.client.gateway import Gateway


@click.group("secret", cls=Group)
def secret() -> None:
    """Keep what functions must know and nobody else.

    A function that names a secret finds it as a file in the folder that HOLDFAST_SECRETS names. No command shows a
    value again.
    """


_value_options = (
    click.option(
        "--from-literal", metavar="VALUE", help="The value. Other users of this machine can see it: better not."
    ),
    click.option(
        "--from-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="A file with the value, which is sent byte for byte.",
    ),
    click.option(
        "--trim/--no-trim",
        default=True,
        show_default=True,
        help="Whether white space at both ends of a value from elsewhere than a file does not count.",
    ),
)


@secret.command(
    "create",
    cls=Command,
    examples=[
        ("from standard input", "holdfast secret create api-key < api-key.txt"),
        ("from a file, byte for byte", "holdfast secret create signing-key --from-file key.bin"),
        ("change it when there is one already", "holdfast secret create api-key --replace < api-key.txt"),
    ],
)
@click.argument("name", metavar="NAME")
@_value_options[0]
@_value_options[1]
@_value_options[2]
@click.option("--replace", is_flag=True, help="When there is one of that name, give it this value.")
@gateway_option
@namespace_option
def create(
    *,
    name: str,
    from_literal: str | None,
    from_file: Path | None,
    trim: bool,
    replace: bool,
    gateway: str,
    namespace: str,
) -> None:
    """Create a secret."""
    value = _value(from_literal, from_file, trim=trim)
    with Gateway(gateway, find_credentials(gateway)) as client:
        administration = Administration(client)
        there = replace and name in administration.secrets(namespace)
        administration.put_secret(name, namespace, value, update=there)
    click.echo(f"{'Updated' if there else 'Created'}: {name}")


@secret.command(
    "update",
    cls=Command,
    examples=[("functions see the new value when they are next started", "holdfast secret update api-key < new.txt")],
)
@secret_argument
@_value_options[0]
@_value_options[1]
@_value_options[2]
@gateway_option
@namespace_option
def update(
    *, name: str, from_literal: str | None, from_file: Path | None, trim: bool, gateway: str, namespace: str
) -> None:
    """Give a secret another value."""
    value = _value(from_literal, from_file, trim=trim)
    with Gateway(gateway, find_credentials(gateway)) as client:
        Administration(client).put_secret(name, namespace, value, update=True)
    click.echo(f"Updated: {name}")


@secret.command("list", cls=Command, examples=[("the names, one a line", "holdfast secret list")])
@gateway_option
@namespace_option
@output_option
def list_(*, gateway: str, namespace: str, output: str) -> None:
    """List the names of the secrets."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        names = Administration(client).secrets(namespace)
    if output == "json":
        click.echo(json.dumps(names, indent=2))
    for name in names if output == "text" else ():
        click.echo(name)


@secret.command(
    "remove",
    cls=Command,
    examples=[("functions that run keep theirs until they end", "holdfast secret remove api-key")],
)
@secret_argument
@gateway_option
@namespace_option
def remove(*, name: str, gateway: str, namespace: str) -> None:
    """Remove a secret."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        Administration(client).remove_secret(name, namespace)
    click.echo(f"Removed: {name}")


def _value(literal: str | None, file: Path | None, *, trim: bool) -> str | bytes:
    """Text where it can be, bytes for a file and for what is no text."""
    if literal is not None and file is not None:
        raise click.UsageError("give the value with --from-literal or with --from-file, not with both")
    if file is not None:
        value: str | bytes = file.read_bytes()
    elif literal is not None:
        value = literal.strip() if trim else literal
    else:
        if sys.stdin.isatty():
            click.echo("Reading the value from the terminal: Ctrl-D on an empty line ends it.", err=True)
        given = sys.stdin.buffer.read()
        given = given.strip() if trim else given
        try:
            value = given.decode()
        except UnicodeDecodeError:
            value = given
    if not value:
        raise click.UsageError("the value is empty")
    return value


def names_for_completion(gateway: str, namespace: str) -> list[str]:
    """The secrets' names. Raises GatewayError."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        return Administration(client).secrets(namespace)
