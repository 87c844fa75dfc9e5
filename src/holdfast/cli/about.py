"""`version`, `completion` and `demo`: getting to know the program."""

from __future__ import annotations

import platform

import click
from click.shell_completion import get_completion_class

from holdfast import __version__
from holdfast.cli.command import Command, gateway_option
from holdfast.cli.exits import Exit


@click.command(
    "version",
    cls=Command,
    examples=[
        ("both sides", "holdfast version"),
        ("this client's number alone", "holdfast version --short-version"),
    ],
)
@gateway_option
@click.option("--short-version", is_flag=True, help="Print this client's version number and nothing else.")
def version(*, gateway: str, short_version: bool) -> None:
    """Show the versions of this client and of the gateway."""
    if short_version:
        click.echo(__version__)
        return
    click.echo(f"client    holdfast {__version__}, Python {platform.python_version()}")

    from holdfast.client import find_credentials  # noqa: PLC0415 - loads the HTTP client
    from holdfast.client.errors import GatewayError  # noqa: PLC0415
    from holdfast.client.gateway import Gateway  # noqa: PLC0415

    try:
        with Gateway(gateway, find_credentials(gateway)) as client:
            info = client.info()
    except GatewayError as error:
        # Not a failure: what was asked for first has been shown, and scripts ask before anything runs.
        click.echo(f"gateway   unknown: {error}", err=True)
        return
    provider = info.get("provider") or {}
    click.echo(f"gateway   {_release(info)} at {gateway}")
    click.echo(f"provider  {provider.get('provider', 'unknown')} {_release(provider)}")


def _release(info: dict[str, object]) -> str:
    version = info.get("version")
    return str(version.get("release") or "of unknown version") if isinstance(version, dict) else "of unknown version"


@click.command(
    "completion",
    cls=Command,
    examples=[
        ("bash: for this session; put the line into ~/.bashrc to keep it", 'eval "$(holdfast completion bash)"'),
        ("zsh: the same with ~/.zshrc", 'eval "$(holdfast completion zsh)"'),
        ("fish: to keep", "holdfast completion fish > ~/.config/fish/completions/holdfast.fish"),
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    Completes commands, options and the names of the functions that the gateway knows. The script is for the name this
    command was called by: `holdfast completion bash` completes holdfast, `faas completion bash` completes faas.
    """
    root = ctx.find_root()
    # Run as a module there is no command to complete; the scripts' own name is what helps.
    name = root.info_name if root.info_name in {"holdfast", "faas"} else "holdfast"
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows the three that the argument allows
    click.echo(kind(root.command, {}, name, f"_{name}_COMPLETE".upper()).source())


@click.command(
    "demo",
    cls=Command,
    examples=[("see it work, once", "holdfast demo")],
)
def demo() -> Exit:
    """Run one asynchronous call end to end, show and check it.

    Starts everything on free ports with a data folder of its own, sends the documented call with a callback URL, shows
    the answer and the callback as they are on the wire, checks them, and stops everything. Exits 1 when anything is
    not as it should be.
    """
    from holdfast.demo import run  # noqa: PLC0415 - only this command needs it

    return Exit.DONE if run() else Exit.FAILED
