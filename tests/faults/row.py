"""What a scenario reports: a line of figures for each thing that it did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.ledger import Balance


@dataclass(frozen=True)
class Plan:
    """How much, and by which dice."""

    folder: Path
    """Empty, of this scenario alone."""
    seed: int
    calls: int
    """Calls of the scenario that has the most; others take a share."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    balance: Balance
    note: str = ""
    allowed_lost: int = 0
    """Calls that the fault itself takes away, as deleting a stream does."""

    @property
    def good(self) -> bool:
        """Whether nothing is missing beyond what the fault itself took away."""
        drawn = self.balance
        wrong = len(drawn.lost) + len(drawn.unfinished) + len(drawn.untold)
        other = (drawn.run_cancelled, drawn.strangers, drawn.unexplained)
        return wrong <= self.allowed_lost and not any(other)


Scenario = Callable[[Plan], AsyncIterator[Row]]
