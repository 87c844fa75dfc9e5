"""The program's list of commands and what it costs to show it."""

import subprocess
import sys

import click
import pytest

from holdfast.cli.command import Command
from holdfast.cli.program import ENTRIES, program


def command(name: str) -> click.Command:
    found = program.get_command(click.Context(program), name)
    assert found is not None
    return found


def leaves() -> list[tuple[str, Command]]:
    """Every command that does something, those below a group too, as it is written."""
    found: list[tuple[str, Command]] = []
    for name in ENTRIES:
        top = command(name)
        below = top.commands.items() if isinstance(top, click.Group) else []
        for path, leaf in [(f"{name} {sub}", leaf) for sub, leaf in below] or [(name, top)]:
            assert isinstance(leaf, Command), path
            found.append((path, leaf))
    return found


LEAVES = [pytest.param(path, leaf, id=path) for path, leaf in leaves()]


@pytest.mark.parametrize("name", ENTRIES)
def test_a_command_is_listed_with_its_own_first_line(name: str) -> None:
    assert command(name).name == name
    assert (command(name).help or "").splitlines()[0] == ENTRIES[name].summary


@pytest.mark.parametrize("name", ENTRIES)
def test_every_command_shows_examples_under_the_name_it_was_called_by(name: str) -> None:
    with (
        click.Context(program, info_name="faas") as root,
        click.Context(command(name), info_name=name, parent=root) as ctx,
    ):
        text = ctx.get_help()
    examples = text.partition("Examples:")[2]
    assert f"faas {name}" in examples
    assert "holdfast" not in examples


@pytest.mark.parametrize(("path", "leaf"), LEAVES)
def test_every_example_of_a_command_is_one_of_that_command(path: str, leaf: Command) -> None:
    assert leaf.examples
    assert all(f"holdfast {path}" in line for _, line in leaf.examples), leaf.examples


@pytest.mark.parametrize(("path", "leaf"), LEAVES)
def test_every_option_says_what_it_is_for(path: str, leaf: Command) -> None:
    for parameter in leaf.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.opts}"


def test_help_is_shown_without_loading_a_server_or_an_http_client() -> None:
    script = """
import sys
from holdfast.cli.program import run
assert run("holdfast", ["--help"]) == 0
heavy = {"httpx", "nats", "starlette", "uvloop", "structlog", "prometheus_client", "yaml", "psutil"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL, timeout=60)
