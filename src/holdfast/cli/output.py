"""Plain text for people: tables and lists of fields. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Lines of aligned columns; the columns numbered in `right` are aligned to the right."""
    lines = [heading, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    return [
        "  ".join(
            f"{cell:>{width}}" if column in right else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def fields(values: Mapping[str, str | Sequence[str] | Mapping[str, str]]) -> list[str]:
    """Lines of `name: value`, values aligned; lists and mappings one element a line, empty ones left out."""
    widest = max(len(name) for name, value in values.items() if value) + 2
    lines: list[str] = []
    for name, value in values.items():
        if not value:
            continue
        if isinstance(value, str):
            elements = [value]
        elif isinstance(value, Mapping):
            elements = [f"{key}: {element}" for key, element in value.items()]
        else:
            elements = list(value)
        for index, element in enumerate(elements):
            lines.append(f"{f'{name}:' if index == 0 else '':{widest}}{element}".rstrip())
    return lines
