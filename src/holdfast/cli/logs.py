"""`logs`: what a function wrote to its standard output and error."""

from __future__ import annotations

import click

from holdfast.cli.command import Command, gateway_option, name_argument, namespace_option
from holdfast.cli.values import since as instant
from holdfast.client import find_credentials
from holdfast.client.gateway import Gateway


@click.command(
    "logs",
    cls=Command,
    examples=[
        ("what is kept of it", "holdfast logs figlet"),
        ("the last 20 lines, then whatever comes, until Ctrl-C", "holdfast logs figlet --tail 20 -f"),
        ("the last ten minutes with times", "holdfast logs figlet --since 10m -t"),
    ],
)
@name_argument
@gateway_option
@namespace_option
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come, until Ctrl-C.")
@click.option("--tail", "--lines", "tail", type=click.IntRange(min=0), metavar="N", help="Start with the last N lines.")
@click.option(
    "--since",
    "--since-time",
    "since",
    type=instant,
    metavar="WHEN",
    help="Start at a time: 10m ago, or 2026-01-31T08:00:00Z.",
)
@click.option("--instance", metavar="INSTANCE", help="Only this replica.")
@click.option("-t", "--timestamps", is_flag=True, help="Put the time and the replica before each line.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["plain", "json"]),
    default="plain",
    show_default=True,
    help="Text, or one JSON object a line as the gateway gives it.",
)
def logs(
    *,
    name: str,
    gateway: str,
    namespace: str,
    follow: bool,
    tail: int | None,
    since: str | None,
    instance: str | None,
    timestamps: bool,
    output: str,
) -> None:
    """Show what a function wrote."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        lines = client.logs(name, namespace=namespace, follow=follow, tail=tail, since=since, instance=instance)
        for line in lines:
            text = line.text.rstrip("\n")
            if output == "json":
                text = line.raw
            elif timestamps:
                text = f"{line.timestamp} {line.instance}  {text}"
            click.echo(text)  # flushes each line, so that a reader of `logs -f` in a pipe sees it when it comes
