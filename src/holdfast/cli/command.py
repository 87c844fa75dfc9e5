"""What all commands share: examples under `--help`, the settings a part reads, and the common options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from holdfast.cli.values import DEFAULT_GATEWAY, function_name, gateway_url
from holdfast.settings import Settings

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Example = tuple[str, str]


class Command(click.Command):
    """A click command whose help ends in the settings it reads and in examples, under the name it was called by."""

    def __init__(
        self,
        *args: Any,
        examples: Sequence[Example] = (),
        settings: Sequence[type[Settings]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.settings = tuple(settings)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the settings and the examples."""
        rows = [
            (setting.name, f"{setting.help}  [default: {setting.default or 'empty'}]")
            for record in self.settings
            for setting in record.declared()
        ]
        if rows:
            with formatter.section("Settings, from the environment"):
                formatter.write_dl(rows)
        program = ctx.find_root().info_name or "holdfast"
        with formatter.section("Examples"):
            indent = " " * formatter.current_indent
            for what, line in self.examples:
                # Not wrapped: an example is there to be copied.
                formatter.write(f"{indent}# {what}\n{indent}{line.replace('holdfast', program)}\n")


class Group(click.Group):
    """Commands under one name, such as `calls show`; its help ends in its commands' first examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one example for each command."""
        program = ctx.find_root().info_name or "holdfast"
        with formatter.section("Examples"):
            indent = " " * formatter.current_indent
            for command in self.commands.values():
                if isinstance(command, Command):
                    what, line = command.examples[0]
                    formatter.write(f"{indent}# {what}\n{indent}{line.replace('holdfast', program)}\n")


def gateway_option(function: Decorated) -> Decorated:
    """Add `-g/--gateway`."""
    return click.option(
        "-g",
        "--gateway",
        type=gateway_url,
        envvar="OPENFAAS_URL",
        default=DEFAULT_GATEWAY,
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="The gateway to talk to.",
    )(function)


def namespace_option(function: Decorated) -> Decorated:
    """Add `-n/--namespace`."""
    return click.option(
        "-n",
        "--namespace",
        default="",
        metavar="NAMESPACE",
        help="The function's namespace. Without it, the gateway's default.",
    )(function)


def name_argument(function: Decorated) -> Decorated:
    """Add `NAME`."""
    return click.argument("name", type=function_name, metavar="NAME", shell_complete=_complete_name)(function)


def _complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
    from holdfast.cli.functions import names_for_completion  # noqa: PLC0415 - loads the HTTP client

    gateway = ctx.params.get("gateway") or DEFAULT_GATEWAY
    return [CompletionItem(name) for name in names_for_completion(gateway) if name.startswith(incomplete)]
