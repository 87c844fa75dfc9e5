"""Print a table on standard output: its heading bold on a terminal, its rows below."""

from __future__ import annotations

from collections.abc import Sequence

import click

from holdfast.cli.output import table


def print_table(heading: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> None:
    """Print aligned columns; those numbered in `right` are aligned to the right."""
    first, *rest = table(heading, rows, right=right)
    click.secho(first, bold=True)
    for line in rest:
        click.echo(line)
