"""Why a replica does not serve, in words: what whoever deployed it is told. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MOST_LINES = 20
MOST_LINE_CHARACTERS = 500
MOST_CHARACTERS = 4096
# A traceback with its error, which stands at the end.

STARTING_S = 10.0
# A replica that takes longer than this to become ready is told of.


@dataclass(frozen=True, slots=True)
class LastError:
    """What went wrong last with a replica."""

    time: datetime
    instance: str
    message: str

    def document(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "time": self.time.isoformat().replace("+00:00", "Z"),
            "instance": self.instance,
            "message": self.message,
        }


class LastWords:
    """What a process has written last."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MOST_LINES)

    def add(self, line: str) -> None:
        """Take a line. HOT for a function that prints without end: nothing is done with it yet."""
        self._lines.append(line)

    def clear(self) -> None:
        """Another process begins."""
        self._lines.clear()

    @property
    def last(self) -> str:
        """The last line."""
        return _harmless(self._lines[-1]) if self._lines else ""

    def text(self) -> str:
        """The last lines, as many as may be shown."""
        lines: list[str] = []
        left = MOST_CHARACTERS
        for line in map(_harmless, reversed(self._lines)):
            left -= len(line) + 1
            if left < 0:
                break
            lines.append(line)
        return "\n".join(reversed(lines))


def _harmless(line: str) -> str:
    """Its beginning; what does not print, and could paint over other lines, as question marks."""
    return "".join(c if c.isprintable() or c == "\t" else "?" for c in line[:MOST_LINE_CHARACTERS])


def how_it_ended(code: int, reason: str, *, was_ready: bool) -> str:
    """One line on the end of a watchdog; `reason` is known when a limit was exceeded."""
    if reason:
        return reason
    when = "" if was_ready else " before it was ready"
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"the watchdog {how}{when}"


def still_starting(started_s: float) -> str:
    """One line on a replica that is not ready yet; empty while that is nothing unusual."""
    return f"not ready {started_s:.0f} s after its start" if started_s >= STARTING_S else ""


def with_words(first: str, words: str) -> str:
    """A message of one line and what the function wrote."""
    return f"{first}:\n{words}" if words else first


def latest(errors: Iterable[LastError | None]) -> LastError | None:
    """The one that happened last."""
    return max((error for error in errors if error is not None), key=lambda error: error.time, default=None)
