"""The parts of the reference that are written from the code, and how they get into the pages.

A page holds a pair of marks, `<!-- generated: NAME -->` and `<!-- end -->`; what stands between them is ours. A test
compares; `python -m tests.docs.reference` writes.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from prometheus_client.metrics import MetricWrapperBase

from holdfast import settings, telemetry
from holdfast.cli.command import Command
from holdfast.cli.exits import Exit
from holdfast.cli.program import ENTRIES, program
from holdfast.telemetry import Derived

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
RECORDS: list[type[settings.Settings]] = [
    settings.GatewaySettings,
    settings.WorkerSettings,
    settings.ProviderSettings,
    settings.WatchdogSettings,
    settings.NatsSettings,
    settings.LogSettings,
]
_MARKED = re.compile(r"(<!-- generated: (?P<name>[\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings_table(record: type[settings.Settings]) -> Iterator[str]:
    yield "| name | default | expected | meaning |"
    yield "|---|---|---|---|"
    for setting in record.declared():
        default = f"`{setting.default}`" if setting.default else "empty"
        yield f"| `{setting.name}` | {default} | {setting.expected} | {_cell(setting.help)} |"


def exit_codes() -> Iterator[str]:
    yield "| code | meaning |"
    yield "|---|---|"
    for code in Exit:
        yield f"| {code.value} | {_cell(code.meaning)} |"


def command_page(name: str) -> Iterator[str]:
    command = program.get_command(click.Context(program), name)
    if isinstance(command, click.Group):
        yield from _group_page(name, command)
        return
    assert isinstance(command, Command)
    yield from _command_page(name, command, "##")


def _group_page(name: str, group: click.Group) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield from _paragraphs(group)
    for index, (below, command) in enumerate(group.commands.items()):
        assert isinstance(command, Command)
        if index:
            yield ""
        yield from _command_page(f"{name} {below}", command, "###")


def _paragraphs(command: click.Command) -> Iterator[str]:
    for paragraph in (command.help or "").split("\n\n"):
        yield " ".join(paragraph.split())
        yield ""


def _command_page(name: str, command: Command, heading: str) -> Iterator[str]:
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    usage = " ".join(
        ["holdfast", name, "[OPTIONS]", *(argument.make_metavar(click.Context(command)) for argument in arguments)]
    )
    yield f"{heading} {name}"
    yield ""
    yield f"`{usage}`"
    yield ""
    yield from _paragraphs(command)
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if options:
        yield "| option | default | meaning |"
        yield "|---|---|---|"
        yield from (_option_row(command, option) for option in options)
        yield ""
    if command.settings:
        parts = " and ".join(f"[{record.PART}](settings.md#{record.PART})" for record in command.settings)
        yield f"Settings from the environment: {parts}."
        yield ""
    yield "```sh"
    for what, line in command.examples:
        yield f"# {what}"
        yield line
    yield "```"


def _option_row(command: click.Command, option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    if not option.is_flag:
        names += f" {option.make_metavar(click.Context(command))}".replace("|", "\\|")
    default = f"`{option.default}`" if option.show_default else ""
    if option.envvar:
        default = f"`${option.envvar}`" + (f", else {default}" if default else "")
    return f"| {names} | {default} | {_cell(option.help or '')} |"


def all_commands() -> Iterator[str]:
    for index, name in enumerate(ENTRIES):
        if index:
            yield ""
        yield from command_page(name)


def metrics() -> list[MetricWrapperBase]:
    """Every metric that telemetry declares, in the order of the file."""
    return [value for value in vars(telemetry).values() if isinstance(value, MetricWrapperBase)]


def derived() -> list[Derived]:
    """Every metric that is made when the metrics are read."""
    return [value for value in vars(telemetry).values() if isinstance(value, Derived)]


def metric_names() -> set[str]:
    """The names as they are exposed."""
    return {_exposed(metric) for metric in metrics()} | {metric.name for metric in derived()}


def metrics_table(prefixes: tuple[str, ...]) -> Iterator[str]:
    yield "| name | type | labels | meaning |"
    yield "|---|---|---|---|"
    for metric in metrics():
        if _exposed(metric).startswith(prefixes):
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            yield f"| `{_exposed(metric)}` | {metric._type} | {labels} | {_cell(metric._documentation)} |"
    for made in derived():
        if made.name.startswith(prefixes):
            labels = ", ".join(f"`{label}`" for label in made.labels)
            yield f"| `{made.name}` | gauge | {labels} | {_cell(made.documentation)} |"


def _exposed(metric: MetricWrapperBase) -> str:
    return f"{metric._name}_total" if metric._type == "counter" else metric._name


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    **{f"settings {record.PART}": (lambda record=record: settings_table(record)) for record in RECORDS},  # type: ignore[misc]
    "exit codes": exit_codes,
    "commands": all_commands,
    "metrics": lambda: metrics_table(("",)),
}


def rewritten(page: str) -> str:
    """A page's text with all its generated parts as the code has them now."""

    def fresh(match: re.Match[str]) -> str:
        lines = "\n".join(PARTS[match["name"]]())
        return f"{match[1]}\n{lines}\n\n{match[3]}"

    return _MARKED.sub(fresh, page)


def generated_in(page: str) -> list[str]:
    """Names of the generated parts of a page."""
    return [match["name"] for match in _MARKED.finditer(page)]


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(rewritten(path.read_text("utf-8")), "utf-8")
