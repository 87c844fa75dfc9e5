"""Show a failure on standard error, with what helps."""

from __future__ import annotations

import os

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
    click.echo(f"{click.style(f'{program}:', fg='red')} {problem.message}", err=True, color=colour())
    for line in problem.advice:
        click.echo(f"  {line}", err=True)
    return problem.code
