"""`login` and `logout`: the user and password of a gateway, kept where faas-cli keeps them."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import click

from holdfast.basic_auth import Credentials
from holdfast.cli.command import Command, gateway_option
from holdfast.client.gateway import Gateway
from holdfast.client.logins import forget_login, keep_login


@click.command(
    "login",
    cls=Command,
    examples=[
        ("asks for the password", "holdfast login -g https://gateway.example.com"),
        ("the password from a file", "holdfast login --password-stdin < password.txt"),
    ],
)
@gateway_option
@click.option("-u", "--username", default="admin", show_default=True, metavar="USER", help="The user.")
@click.option(
    "-p", "--password", metavar="PASSWORD", help="The password. Other users of this machine can see it: better not."
)
@click.option("-s", "--password-stdin", is_flag=True, help="Read the password from standard input.")
def login(*, gateway: str, username: str, password: str | None, password_stdin: bool) -> None:
    """Check a user and password with the gateway, and keep them.

    They are kept in ~/.openfaas/config.yml, for this program and for faas-cli. Nothing is kept when the gateway refuses
    them. A server started on this machine by the same user needs no login.
    """
    if password is not None and password_stdin:
        raise click.UsageError("give the password with --password or with --password-stdin, not with both")
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif password is None:
        if not sys.stdin.isatty():
            raise click.UsageError("no password: standard input is no terminal, so give --password-stdin")
        password = click.prompt("Password", hide_input=True, err=True)
    if not password or not username or ":" in username:
        raise click.UsageError("the password is empty" if not password else "a user is text without ':'")
    credentials = Credentials(username, password)
    if gateway.startswith("http://") and not _is_this_machine(gateway):
        click.secho("The password travels unencrypted: use https:// where the gateway has it.", err=True, fg="yellow")
    with Gateway(gateway, credentials) as client:
        client.functions()
    click.echo(f"Logged in to {gateway} as {username}; kept in {keep_login(gateway, credentials)}")


@click.command(
    "logout", cls=Command, examples=[("forget the password", "holdfast logout -g https://gateway.example.com")]
)
@gateway_option
def logout(*, gateway: str) -> None:
    """Forget the user and password kept for a gateway."""
    if forget_login(gateway):
        click.echo(f"Logged out of {gateway}")
    else:
        click.echo(f"No login was kept for {gateway}", err=True)


def _is_this_machine(gateway: str) -> bool:
    return urlsplit(gateway).hostname in {"127.0.0.1", "localhost", "::1"}
