"""Show a failure on standard error, with what helps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

import click

from holdfast.cli.exits import Exit
from holdfast.cli.problems import explain
from holdfast.errors import HoldfastError


def colour() -> bool | None:
    """Whether to colour: click's own choice, which is terminals only, unless NO_COLOR is set."""
    return False if os.environ.get("NO_COLOR") else None


def report(error: HoldfastError, program: str) -> Exit:
    """Show it to the user of `program`, the name the command line was called by; gives the exit code."""
    problem = explain(error, program)
    complain(problem.message, program, problem.advice)
    return problem.code


def complain(message: str, program: str, advice: Sequence[str] = ()) -> None:
    """Write to standard error what went wrong; when nobody reads that, the exit code has to do."""
    with suppress(OSError):
        click.echo(f"{click.style(f'{program}:', fg='red')} {message}", err=True, color=colour())
        for line in advice:
            click.echo(f"  {line}", err=True)
