"""What all commands share: examples under `--help`, the settings a part reads, and the common options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from holdfast.cli.aliases import ALIASES
from holdfast.cli.values import DEFAULT_GATEWAY, function_name, gateway_url, optional_function_name, regular_expression
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

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find one, under another name that faas-cli has for it too."""
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

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


def stack_options(function: Decorated) -> Decorated:
    """Add `-f/--yaml`, `--filter` and `--regex`."""
    for option in reversed(
        (
            click.option(
                "-f",
                "--yaml",
                metavar="FILE",
                type=click.Path(exists=True, dir_okay=False),
                help="The stack file. Without it, stack.yaml or stack.yml of the current folder.",
            ),
            click.option(
                "--filter",
                "filter_",
                default="",
                metavar="PATTERN",
                help="Only functions whose names match, as a shell's patterns do: 'order-*'.",
            ),
            click.option(
                "--regex",
                type=regular_expression,
                default="",
                metavar="EXPRESSION",
                help="Only functions with this regular expression in the name.",
            ),
        )
    ):
        function = option(function)
    return function


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


def optional_name_argument(function: Decorated) -> Decorated:
    """Add `[NAME]`."""
    return click.argument("name", type=function_name, required=False, metavar="[NAME]", shell_complete=_complete_name)(
        function
    )


def names_argument(function: Decorated) -> Decorated:
    """Add `[NAME]...`."""
    return click.argument("names", type=function_name, nargs=-1, metavar="[NAME]...", shell_complete=_complete_name)(
        function
    )


def function_option(help: str) -> Callable[[Decorated], Decorated]:  # noqa: A002 - click's word
    """Add `--function`, empty without one."""
    return click.option(
        "--function",
        type=optional_function_name,
        default="",
        metavar="NAME",
        help=help,
        shell_complete=_complete_name,
    )


def secret_argument(function: Decorated) -> Decorated:
    """Add `NAME`, of a secret that there is."""
    return click.argument("name", metavar="NAME", shell_complete=_complete_secret)(function)


def output_option(function: Decorated) -> Decorated:
    """Add `-o/--output`, text or JSON."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Form of the output.",
    )(function)


def _complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
    from holdfast.cli.functions import names_for_completion  # noqa: PLC0415 - loads the HTTP client

    return _complete(ctx, incomplete, names_for_completion)


def _complete_secret(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
    from holdfast.cli.secret import names_for_completion  # noqa: PLC0415 - loads the HTTP client

    namespace = str(ctx.params.get("namespace") or "")
    return _complete(ctx, incomplete, lambda gateway: names_for_completion(gateway, namespace))


def complete_queue(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
    """The names of the queues."""
    from holdfast.cli.queue import names_for_completion  # noqa: PLC0415 - loads the HTTP client

    return _complete(ctx, incomplete, names_for_completion)


def _complete(ctx: click.Context, incomplete: str, names: Callable[[str], list[str]]) -> list[CompletionItem]:
    """The names that a gateway knows and that begin so; none when it cannot be asked.

    Completion must never print an error into a prompt.
    """
    from holdfast.client.errors import GatewayError  # noqa: PLC0415

    try:
        found = names(str(ctx.params.get("gateway") or DEFAULT_GATEWAY))
    except GatewayError:
        return []
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]
