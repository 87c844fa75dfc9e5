"""Read a stream's messages from the newest to older ones, a stretch at a time.

JetStream gives messages forwards only, from a sequence on. So a stretch of sequences is read below the one before: as
narrow as one batch where messages stand close, and wide, with a question for a single message, where there are gaps. A
stream of millions in which three match is gone through in some dozens of questions.

How much one reading may cost is a Budget, shared by several streams: who has spent it begins again at `unread`.
"""

from __future__ import annotations

from holdfast.queue.connection import Connection
from holdfast.queue.waiting import Standing, messages_from

BATCH = 64
WIDEN = 8
# A stretch without a match makes the next one so many times wider.


class Budget:
    """What may be read, at most about."""

    def __init__(self, messages: int, size: int) -> None:
        self._messages = messages
        self._bytes = size

    def pay(self, messages: list[Standing]) -> None:
        """Count one question and what came of it."""
        self._messages -= max(1, len(messages))
        self._bytes -= sum(len(message.payload) for message in messages)

    @property
    def is_spent(self) -> bool:
        """Whether no more is to be read."""
        return self._messages <= 0 or self._bytes <= 0


class Backwards:
    """The messages of one stream under a subject or pattern, the newest first."""

    def __init__(self, connection: Connection, stream: str, pattern: str, newest: int, budget: Budget) -> None:
        """`newest`: the sequence to begin with, downwards."""
        self._connection = connection
        self._stream = stream
        self._pattern = pattern
        self._high = newest
        self._width = BATCH
        self._read: list[Standing] = []
        self._budget = budget

    async def head(self) -> Standing | None:
        """The newest that was not taken; None: there is no more, or the budget is spent. Raises QueueUnavailable."""
        while not self._read and self._high > 0 and not self._budget.is_spent:
            await self._read_stretch()
        return self._read[-1] if self._read else None

    def take(self) -> Standing:
        """Take the head, which must have been looked at."""
        return self._read.pop()

    @property
    def unread(self) -> int:
        """The highest sequence that may hold something not taken yet; 0: all was read."""
        return self._read[-1].sequence if self._read else self._high

    async def _read_stretch(self) -> None:
        low = max(1, self._high - self._width + 1)
        if self._width > BATCH and await self._ask(low, 1):
            # Something is there: where, a narrower stretch tells.
            self._width = max(BATCH, self._width // WIDEN)
            return
        found: list[Standing] = []
        if self._width <= BATCH:
            # A batch ends early when its messages are large.
            while batch := await self._ask(found[-1].sequence + 1 if found else low, BATCH):
                found += batch
                if batch[-1].sequence == self._high:
                    break
        self._read = found
        self._high = low - 1
        if not found:
            self._width *= WIDEN

    async def _ask(self, low: int, most: int) -> list[Standing]:
        """Messages of the stretch from `low` on."""
        if low > self._high:
            return []
        batch = await messages_from(self._connection, self._stream, low, self._pattern, most)
        self._budget.pay(batch)
        return [message for message in batch if message.sequence <= self._high]
