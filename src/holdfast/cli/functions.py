"""`list` and `describe`: which functions there are and what they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from holdfast.cli.command import Command, gateway_option, name_argument, namespace_option
from holdfast.cli.listing import print_table
from holdfast.cli.output import fields
from holdfast.client import find_credentials
from holdfast.client.gateway import FunctionStatus, Gateway

_ORDERS: dict[str, Callable[[FunctionStatus], tuple[Any, ...]]] = {
    "name": lambda function: (function.name,),
    "invocations": lambda function: (-function.invocations, function.name),
    "replicas": lambda function: (-function.available_replicas, function.name),
    "creation": lambda function: (function.created_at, function.name),
}


@click.command(
    "list",
    cls=Command,
    examples=[
        ("all functions", "holdfast list"),
        ("the busiest first, with images and times", "holdfast list -v --sort invocations"),
        ("each name, for a script", "holdfast list -q"),
        ("as JSON, as the gateway gives it", "holdfast list --output json"),
    ],
)
@gateway_option
@namespace_option
@click.option("-v", "--verbose", is_flag=True, help="Show image and time of creation as well.")
@click.option("-q", "--quiet", is_flag=True, help="Print names only, one a line.")
@click.option("--sort", type=click.Choice(list(_ORDERS)), default="name", show_default=True, help="What to order by.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Form of the output.",
)
def list_functions(*, gateway: str, namespace: str, verbose: bool, quiet: bool, sort: str, output: str) -> None:
    """List the functions."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        functions = sorted(client.functions(namespace), key=_ORDERS[sort])
    if output == "json":
        click.echo(json.dumps([function.raw for function in functions], indent=2))
        return
    names = [function.name if namespace else function.route for function in functions]
    if quiet:
        for name in names:
            click.echo(name)
        return
    heading = ["Function", "Invocations", "Replicas"]
    rows = [
        [name, str(f.invocations), f"{f.available_replicas}/{f.replicas}"]
        for name, f in zip(names, functions, strict=True)
    ]
    if verbose:
        heading += ["Image", "Created"]
        rows = [[*row, f.image, f.created_at] for row, f in zip(rows, functions, strict=True)]
    print_table(heading, rows, right=frozenset({1, 2}))


@click.command(
    "describe",
    cls=Command,
    examples=[
        ("one function", "holdfast describe figlet"),
        ("its JSON, as the gateway gives it", "holdfast describe figlet --output json"),
    ],
)
@name_argument
@gateway_option
@namespace_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of the output.",
)
def describe(*, name: str, gateway: str, namespace: str, output: str) -> None:
    """Show all there is to know about a function."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        function = client.function(name, namespace)
    if output == "json":
        click.echo(json.dumps(function.raw, indent=2))
        return
    for line in fields(_description(function, gateway)):
        click.echo(line)


def _description(function: FunctionStatus, gateway: str) -> dict[str, str | list[str] | dict[str, str]]:
    raw = function.raw
    route = f"{function.name}.{function.namespace}"
    usage, error = raw.get("usage") or {}, raw.get("lastError") or {}
    values: dict[str, str | list[str] | dict[str, str]] = {
        "Name": function.name,
        "Namespace": function.namespace,
        "Status": _status(function),
        "Replicas": f"{function.available_replicas} of {function.replicas} ready",
        "Warnings": [str(warning) for warning in raw.get("warnings") or []],
        "Last error": _error(error) if error else [],
        "Invocations": str(function.invocations),
        "Image": function.image or "none",
        "Process": function.process or "none",
        "Created": function.created_at or "unknown",
        "URL": f"{gateway}/function/{route}",
        "Async URL": f"{gateway}/async-function/{route}",
        "Labels": {str(key): str(value) for key, value in (raw.get("labels") or {}).items()},
        "Annotations": {str(key): str(value) for key, value in (raw.get("annotations") or {}).items()},
        "Environment": {str(key): str(value) for key, value in (raw.get("envVars") or {}).items()},
        "Secrets": [str(secret) for secret in raw.get("secrets") or []],
        "Constraints": [str(constraint) for constraint in raw.get("constraints") or []],
        "Limits": {str(key): str(value) for key, value in (raw.get("limits") or {}).items() if value},
        "Requests": {str(key): str(value) for key, value in (raw.get("requests") or {}).items() if value},
        "Read-only": "yes" if raw.get("readOnlyRootFilesystem") else "",
    }
    if usage:
        values["Memory"] = f"{int(usage.get('totalMemoryBytes') or 0) / 2**20:.1f} MiB"
        values["CPU"] = f"{float(usage.get('cpu') or 0):g} millicores"
    return values


def _status(function: FunctionStatus) -> str:
    if not function.available_replicas:
        return "no replica is ready" if function.replicas else "scaled to zero, the next call starts it"
    updated = function.raw.get("updatedReplicas")
    if updated is not None and int(updated) < function.replicas and function.raw.get("lastError"):
        return "ready, in part or wholly by the version before: the newest does not start"
    return "ready"


def _error(error: dict[str, Any]) -> list[str]:
    """When, where and what; the function's own words are the lines after the first."""
    first, *words = str(error.get("message", "")).split("\n")
    return [f"{error.get('time', '')} {error.get('instance', '')}: {first}".strip(), *words]


def names_for_completion(gateway: str) -> list[str]:
    """The functions' names. Raises GatewayError."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        return sorted(function.route for function in client.functions())
