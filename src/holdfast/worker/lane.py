"""One function's lane as a worker uses it, and the annotation that limits a function. No I/O."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from holdfast.queue.consumer import Consumer

MAX_INFLIGHT = "com.openfaas.max_inflight"
"""The annotation: how many calls of the function run at once, on all workers of its queue together."""


def read_limit(annotations: Mapping[str, str]) -> int | None:
    """The limit that a function's annotation gives; None for none, and for what is no number above 0."""
    text = annotations.get(MAX_INFLIGHT, "").strip()
    return int(text) or None if text.isascii() and text.isdecimal() else None


class Lane:
    """One function's lane, as this worker uses it."""

    def __init__(self, words: str, limit: int | None) -> None:
        self.words = words
        self.limit = limit
        self.consumer: Consumer | None = None
        """None while it is being opened."""
        self.opened = asyncio.Event()
        self.refused = False
        self.used_at = time.monotonic()
        self.retired_at: float | None = None
        self.calls: set[asyncio.Task[None]] = set()
        """Taken from it and not settled."""
        self.in_slots = 0
        """Those of them that have not left their slot."""
        self.waiting = 0
        """Those of them that wait for their turn."""

    @property
    def announced(self) -> bool:
        """Whether gateways may use it."""
        return self.consumer is not None and self.retired_at is None

    def use(self) -> None:
        """It has something to do."""
        self.used_at = time.monotonic()
        self.retired_at = None
