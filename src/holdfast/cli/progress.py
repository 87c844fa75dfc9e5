"""What is shown while something is done: on standard error, a bar only where a terminal can draw it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


def say(text: str) -> None:
    """A line about what is being done."""
    click.echo(text, err=True)


def detail(text: str) -> None:
    """A line of what something else says meanwhile: indented, and dim on a terminal."""
    click.secho(f"  {text}", err=True, dim=True)


def warn(text: str) -> None:
    """A line that the user should look at."""
    click.secho(text, err=True, fg="yellow")


def size(count: int) -> str:
    """A number of bytes, for people."""
    for unit, factor in (("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


@contextmanager
def uploading(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how much of `total` bytes is sent; yields what is to be told of each piece."""
    if not sys.stderr.isatty():
        say(f"{label} ({size(total)})")
        yield lambda _: None
        return
    with click.progressbar(length=total, label=f"{label} ({size(total)})", file=sys.stderr) as bar:
        yield bar.update
