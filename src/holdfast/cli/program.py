"""The program itself: its commands, loaded when they are used, and how it ends.

`main` is the only place that turns an ending into an exit code.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from holdfast import __version__
from holdfast.cli.aliases import ALIASES
from holdfast.cli.exits import Exit
from holdfast.cli.report import colour, complain, report
from holdfast.errors import HoldfastError
from holdfast.standard_streams import give_up_output, open_missing


class Entry(NamedTuple):
    """A command before it is loaded: the module and attribute that hold it, and its line in the list of commands."""

    module: str
    attribute: str
    summary: str


# The summaries repeat the commands' own first lines, so that the list needs no command loaded; a test compares them.
SECTIONS: dict[str, dict[str, Entry]] = {
    "Use functions": {
        "invoke": Entry("invoke", "invoke", "Call a function, and print its answer or the call's id."),
        "calls": Entry("calls", "calls", "Ask after asynchronous calls, and cancel them."),
        "dead": Entry("dead", "dead", "Look at what failed for good, do it again, or drop it."),
        "list": Entry("functions", "list_functions", "List the functions."),
        "describe": Entry("functions", "describe", "Show all there is to know about a function."),
        "logs": Entry("logs", "logs", "Show what a function wrote."),
    },
    "Deploy functions": {
        "new": Entry("new", "new", "Begin a function: a folder and its place in the stack file."),
        "up": Entry("deploy", "up", "Build, push and deploy the functions of a stack file."),
        "deploy": Entry("deploy", "deploy", "Deploy functions, or replace what runs under their names."),
        "build": Entry("deploy", "build", "Pack the folders of functions into bundles."),
        "push": Entry("deploy", "push", "Send bundles to where the functions will run."),
        "remove": Entry("manage", "remove", "Remove functions."),
        "scale": Entry("manage", "scale", "Set the number of a function's replicas."),
        "secret": Entry("secret", "secret", "Keep what functions must know and nobody else."),
        "store": Entry("store", "store", "Deploy the functions that ship with Holdfast."),
    },
    "Use a gateway": {
        "login": Entry("login", "login", "Check a user and password with the gateway, and keep them."),
        "logout": Entry("login", "logout", "Forget the user and password kept for a gateway."),
        "ready": Entry("manage", "ready", "Wait until the gateway or a function is ready."),
        "queue": Entry("queue", "queue", "Look at queues, hold them and empty them."),
        "namespaces": Entry("namespace", "namespaces", "List the namespaces."),
        "namespace": Entry("namespace", "namespace", "Make, change and remove namespaces."),
    },
    "Run a server": {
        "serve": Entry("parts", "serve", "Run everything on this machine until Ctrl-C."),
        "gateway": Entry("parts", "gateway", "Run one gateway."),
        "worker": Entry("parts", "worker", "Run one queue-worker."),
        "provider": Entry("parts", "provider", "Run the local function runtime."),
        "watchdog": Entry("parts", "watchdog", "Run the HTTP server in front of one function."),
    },
    "Get to know": {
        "demo": Entry("about", "demo", "Run one asynchronous call end to end, show and check it."),
        "version": Entry("about", "version", "Show the versions of this client and of the gateway."),
        "completion": Entry("about", "completion", "Print a shell's completion script."),
    },
}
ENTRIES = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class Program(click.Group):
    """A group that loads a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The commands in the order of the help."""
        return list(ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Load one."""
        entry = ENTRIES.get(cmd_name) or ENTRIES.get(ALIASES.get(cmd_name, ""))
        if entry is None:
            return None
        command = getattr(importlib.import_module(f"holdfast.cli.{entry.module}"), entry.attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is wrong otherwise
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is answered with those that look like it."""
        similar = difflib.get_close_matches(args[0], ENTRIES, n=3)
        if args[0] not in ENTRIES and args[0] not in ALIASES and similar and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {' or '.join(similar)}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list, without loading any command."""
        widest = max(map(len, ENTRIES))
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{widest}}", entry.summary) for name, entry in entries.items()])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the arguments. What writes here already is the help."""
        with _own_endings():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and deliver all it wrote."""
        with _own_endings():
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result


class _NobodyReads(Exception):
    """Whoever read the output has stopped reading."""


@contextmanager
def _own_endings() -> Iterator[None]:
    """Keep click from ending the program by itself when nobody reads its output: it would say 1, as of a failure."""
    try:
        yield
    except BrokenPipeError as error:
        raise _NobodyReads from error


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="COMMAND --help shows a command's options and examples.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def program() -> None:
    """Asynchronous functions over HTTP.

    A call is accepted in milliseconds, stored in NATS JetStream, run, and its result sent to the caller's callback
    URL. The interface is OpenFaaS's.
    """


def run(name: str, arguments: Sequence[str]) -> int:
    """Run the program under a name; gives its exit code."""
    try:
        result = program.main(list(arguments), prog_name=name, standalone_mode=False, color=colour())
    except click.Abort:
        return Exit.INTERRUPTED
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return error.exit_code
    except HoldfastError as error:
        return report(error, name)
    except _NobodyReads:
        give_up_output()
        return Exit.BROKEN_PIPE
    except OSError as error:
        # The output's file system is full, say; what commands expect to fail they have dealt with.
        give_up_output()
        where = f": {error.filename}" if error.filename else ""
        complain(f"{error.strerror or error}{where}", name)
        return Exit.FAILED
    return result if isinstance(result, int) else Exit.DONE


def called_by() -> str:
    """The name the program was called by: `holdfast`, `faas`, or how the module was run."""
    name = Path(sys.argv[0]).name
    return "python -m holdfast" if name == "__main__.py" else name


def main() -> NoReturn:
    """The entry point of both scripts."""
    open_missing()
    sys.exit(run(called_by(), sys.argv[1:]))
