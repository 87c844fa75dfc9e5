"""What the workers say of their queues' lanes: where a call is to be put, and how many of a function may run."""

from __future__ import annotations

import structlog

from holdfast.directory import Directory
from holdfast.function import FunctionRef
from holdfast.queue.lanes import Announced
from holdfast.queue.message import function_words, place_of_provider
from holdfast.queue.presence import Presence

log = structlog.get_logger()


class LaneBoard:
    """The lanes of all queues, as their workers announced them last."""

    def __init__(self, presence: Presence, functions: Directory) -> None:
        self._presence = presence
        self._functions = functions
        self._warned: set[str] = set()
        self._apart: frozenset[str] = frozenset()
        """The queues that other providers take from as well, so that calls of this gateway's stand apart."""
        self._lanes: frozenset[tuple[str, str]] = frozenset()
        presence.on_heard = self._learn

    def place(self, queue: str, ref: FunctionRef) -> str:
        """Where a call of a function stands in its queue: `call`, or in a lane. HOT: 30 ns while there is none."""
        if not self._lanes:
            return "call"
        if queue in self._apart:
            return place_of_provider(self._functions.provider_id)
        return "lane" if (queue, function_words(ref)) in self._lanes else "call"

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
        workers, own = self._presence.workers(), self._functions.provider_id
        self._apart = frozenset(worker.queue for worker in workers if own and worker.fields.get("apart") == own)
        self._lanes = frozenset(
            (worker.queue, words) for worker in workers for words in Announced.read(worker.fields).lanes
        ) | frozenset((queue, "") for queue in self._apart)
        for worker in workers:
            other = str(worker.fields.get("provider") or own)
            if own and other != own and other not in self._warned:
                self._warned.add(other)
                log.warning(
                    "workers of another provider serve a queue: calls of this gateway go to workers of its own",
                    queue=worker.queue,
                    provider=own,
                    other=other,
                    other_url=str(worker.fields.get("provider_url", "")),
                    other_worker=worker.worker_id,
                )
