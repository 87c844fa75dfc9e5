"""The output of a function's replicas: the last lines, and whoever follows them.

In memory; nothing is written to disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

# Lines may be long: the kept text of one function is bounded as well as the number of its lines.
MOST_CHARACTERS = 16 * 1024 * 1024


class LogLine(NamedTuple):
    """One line of one replica. A tuple: made for each line of output, it costs a third of a frozen record."""

    time: datetime
    instance: str
    text: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Which lines are wanted."""

    since: datetime | None = None
    tail: int | None = None
    """At most so many of the lines there are already; None: all."""
    instance: str = ""
    """Empty: of every replica."""

    def wants(self, line: LogLine) -> bool:
        """Whether a line is among them, its place in the order aside."""
        return (not self.instance or line.instance == self.instance) and (self.since is None or line.time >= self.since)


class FunctionLogs:
    """The last `most_lines` lines of one function. A follower who is slower than the function misses the oldest."""

    def __init__(self, most_lines: int) -> None:
        self._lines: deque[LogLine] = deque()
        self._most_lines = most_lines
        self._characters = 0
        self._appended = 0
        """How many lines there ever were: the number of the next one."""
        self._changed: asyncio.Event | None = None
        """There while somebody waits for the next line."""

    def append(self, instance: str, text: str) -> None:
        """Take a line. HOT for a function that prints without end: about 1 µs."""
        self._lines.append(LogLine(datetime.now(UTC), instance, text))
        self._characters += len(text)
        self._appended += 1
        while len(self._lines) > self._most_lines or self._characters > MOST_CHARACTERS:
            self._characters -= len(self._lines.popleft().text)
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def kept(self, selection: Selection) -> list[LogLine]:
        """The lines there are, oldest first."""
        lines = [line for line in self._lines if selection.wants(line)]
        if selection.tail is None:
            return lines
        return lines[-selection.tail :] if selection.tail > 0 else []

    async def follow(self, selection: Selection) -> AsyncIterator[LogLine]:
        """The lines there are, then each as it comes, until the caller stops."""
        seen = self._appended
        for line in self.kept(selection):
            yield line
        while True:
            if seen == self._appended:
                if self._changed is None:
                    self._changed = asyncio.Event()
                await self._changed.wait()
            unseen = min(self._appended - seen, len(self._lines))
            fresh = list(islice(self._lines, len(self._lines) - unseen, None))
            seen = self._appended
            for line in fresh:
                if selection.wants(line):
                    yield line
