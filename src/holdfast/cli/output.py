"""Plain text for people: tables and lists of fields. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_IN_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str, *, lines: bool = False) -> str:
    """Text that others wrote, such as a caller's request, without what would drive the terminal.

    `lines`: line ends and tabs may stay.
    """
    return (_CONTROL_IN_LINES if lines else _CONTROL).sub("\N{REPLACEMENT CHARACTER}", text)


def span(seconds: float) -> str:
    """A length of time in its two largest units: 3d 4h, 2m 5s, 0.8s."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Lines of aligned columns; the columns numbered in `right` are aligned to the right."""
    lines = [heading, *([plain(cell) for cell in row] for row in rows)]
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
            lines.append(f"{f'{name}:' if index == 0 else '':{widest}}{plain(element)}".rstrip())
    return lines
