"""What the workers say of their queues' lanes: where a call is to be put, and how many of a function may run."""

from __future__ import annotations

from holdfast.function import FunctionRef
from holdfast.queue.lanes import Announced
from holdfast.queue.message import function_words
from holdfast.queue.presence import Presence


class LaneBoard:
    """The lanes of all queues, as their workers announced them last."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence
        self._lanes: frozenset[tuple[str, str]] = frozenset()
        presence.on_heard = self._learn

    def place(self, queue: str, ref: FunctionRef) -> str:
        """Where a call of a function stands in its queue: `call`, or `lane`. HOT: 30 ns while there is no lane."""
        if not self._lanes or (queue, function_words(ref)) not in self._lanes:
            return "call"
        return "lane"

    def limit(self, queue: str, ref: FunctionRef) -> int | None:
        """How many calls of a function its workers have learned to run at once, together; None: no limit."""
        words = function_words(ref)
        limits = [said.limits[words] for said in self._said_of(queue) if words in said.limits]
        return sum(limits) if limits else None

    def held_until(self, queue: str, ref: FunctionRef) -> float | None:
        """Until when (Unix seconds) a function asked to be left alone; None: it did not."""
        words = function_words(ref)
        return max((said.held[words] for said in self._said_of(queue) if words in said.held), default=None)

    def _said_of(self, queue: str) -> list[Announced]:
        return [Announced.read(worker.fields) for worker in self._presence.workers_of(queue)]

    def _learn(self) -> None:
        # Workers that fell silent do not change this: a lane is there until one of them takes it down, which it does
        # a while after it has announced itself without that lane.
        self._lanes = frozenset(
            (worker.queue, words)
            for worker in self._presence.workers()
            for words in Announced.read(worker.fields).lanes
        )
