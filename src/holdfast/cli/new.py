"""`new`: a function's folder and its place in a stack file, to begin with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

import holdfast
from holdfast.cli.command import Command
from holdfast.cli.plan import DEFAULT_FILES
from holdfast.cli.values import DEFAULT_GATEWAY, deployable_name, gateway_url
from holdfast.errors import DeploymentError
from holdfast.stack import parse_stack

TEMPLATES = Path(holdfast.__file__).parent / "samples" / "templates"

# lang -> what it is, and the lines of its entry beyond those that all have.
LANGUAGES = {
    "python3-http": ("Python: handle(event, context), the request and the answer in hand.", ()),
    "python3": ("Python: handle(req), the body alone.", ()),
    "dockerfile": ("A command, started for each request: body in, answer out.", ("fprocess: sh handler.sh",)),
}
_BESIDE = "stack.yml"


@click.command(
    "new",
    cls=Command,
    examples=[
        ("a Python function in a stack file of its own", "holdfast new hello --lang python3-http"),
        ("a command, added to a file that there is", "holdfast new count --lang dockerfile --append stack.yml"),
        ("which languages there are", "holdfast new --list"),
    ],
)
@click.argument("name", type=deployable_name, required=False, default="", metavar="[NAME]")
@click.option("--lang", type=click.Choice(list(LANGUAGES)), metavar="LANG", help="What the function is written in.")
@click.option("--list", "list_", is_flag=True, help="List the languages.")
@click.option(
    "-a",
    "--append",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Add the function to this stack file.",
)
@click.option("--handler", metavar="FOLDER", help="The function's folder. Without it, its name.")
@click.option("-p", "--prefix", default="", metavar="TEXT", help="Put before the image's name, as in TEXT/NAME:latest.")
@click.option(
    "-g", "--gateway", type=gateway_url, default=DEFAULT_GATEWAY, metavar="URL", help="Written into a fresh stack file."
)
def new(
    *, name: str, lang: str | None, list_: bool, append: Path | None, handler: str | None, prefix: str, gateway: str
) -> None:
    """Begin a function: a folder and its place in the stack file.

    Nothing that is there is written over; --append adds to a stack file and leaves the rest of it as it is.
    """
    if list_:
        for language, (meaning, _) in LANGUAGES.items():
            click.echo(f"{language:<13} {meaning}")
        return
    if not name:
        raise click.UsageError("the function's name is missing")
    if lang is None:
        raise click.UsageError(f"--lang is missing: one of {', '.join(LANGUAGES)}")
    path = append or Path(_BESIDE)
    before = path.read_text("utf-8") if append is not None else _fresh_stack(name, gateway)
    folder = Path(handler or name)
    # A path of the stack file, which is where it will be read from.
    beside = Path(os.path.relpath(folder, path.parent)).as_posix()
    image = f"{prefix.rstrip('/')}/{name}:latest" if prefix else f"{name}:latest"
    after = with_entry(before, str(path), name, entry(name, lang, beside, image))
    if folder.exists():
        raise DeploymentError(name, f"{folder} is there already: choose another name, or another folder with --handler")
    shutil.copytree(TEMPLATES / lang, folder, ignore=shutil.ignore_patterns("__pycache__"))
    path.write_text(after, "utf-8")
    program = click.get_current_context().find_root().info_name
    click.echo(f"{folder}/ and its entry in {path} are made.", err=True)
    click.echo(f"Deploy it: {program} up -f {path}", err=True)


def _fresh_stack(name: str, gateway: str) -> str:
    there = next((file for file in DEFAULT_FILES if Path(file).exists()), None)
    if there is not None:
        raise DeploymentError(name, f"{there} is there already: --append {there} adds the function to it")
    return f"version: 1.0\nprovider:\n  name: openfaas\n  gateway: {gateway}\nfunctions:\n"


def entry(name: str, language: str, handler: str, image: str) -> str:
    """The lines of a function below `functions:`. No I/O."""
    handler = handler if handler.startswith((".", "/")) else f"./{handler}"
    lines = (f"lang: {language}", f"handler: {handler}", f"image: {image}", *LANGUAGES[language][1])
    return f"  {name}:\n" + "".join(f"    {line}\n" for line in lines)


def with_entry(text: str, source: str, name: str, lines: str) -> str:
    """A stack file's text with a function more; comments and everything else stay as they are. No I/O.

    Raises DeploymentError when the function is in it already, or when its `functions` do not come last.
    """
    names = _names(text, source)
    if name in names:
        raise DeploymentError(name, f"{source} has a function of that name already")
    after = f"{text.rstrip()}\n{lines}"
    try:
        added = _names(after, source)
    except DeploymentError:
        added = []
    if added != [*names, name]:
        raise DeploymentError(name, f"{source} cannot be added to by itself; put this below its functions:\n{lines}")
    return after


def _names(text: str, source: str) -> list[str]:
    # What else stands in it is the deployment's matter: values of this environment and other files are not looked at.
    stack = parse_stack(text, source=source, folder=Path(), environ={}, read_file=lambda _path, _function: "")
    return [deployment.ref.name for deployment in stack.deployments]
