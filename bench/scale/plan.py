"""How much of everything, and the tables that come of it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.report import line

SLOTS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes; the defaults are what docs/explain/performance.md shows."""

    calls: int = 1_000_000
    functions: int = 1_000
    connections: int = 10_000
    slow: int = 1_000
    nap_s: float = 5.0
    """How long each slow call takes."""
    seconds: float = 5.0
    """Length of each measurement."""

    @property
    def warmup_s(self) -> float:
        return min(1.0, self.seconds / 4)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with the same columns, in their order."""

    title: str
    rows: Sequence[dict[str, Any]]
    notes: Sequence[str] = ()
    failures: dict[str, int] = field(default_factory=dict)
    """What was answered otherwise than expected, and how often."""

    def markdown(self) -> list[str]:
        """The table as lines, with a heading."""
        columns = list(self.rows[0])
        lines = [f"## {self.title}", "", line(columns), line(["---", *["--:"] * (len(columns) - 1)])]
        lines += [line([_shown(row[column]) for column in columns]) for row in self.rows]
        notes = [*self.notes, *(f"**{what}: {count}**" for what, count in self.failures.items())]
        return [*lines, "", *(f"- {note}" for note in notes), *([""] if notes else [])]


def _shown(value: float | str | None) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case float() if abs(value) < 10:
            return f"{value:.2f}"
        case float() if abs(value) < 100:
            return f"{value:.1f}"
        case _:
            return f"{value:,.0f}"
