"""What the workers say of their queues' lanes: where a call is to be put, and how many of a function may run."""

from __future__ import annotations

import asyncio

import structlog

from holdfast.function import FunctionRef
from holdfast.queue.connection import Connection
from holdfast.queue.lanes import ANNOUNCED_UNDER, HEARD_S, Announcement
from holdfast.queue.message import function_words
from holdfast.queue.wire import Msg

log = structlog.get_logger()


class LaneBoard:
    """The announcements of the last HEARD_S, by queue and worker."""

    def __init__(self, connection: Connection) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._said: dict[tuple[str, str], tuple[Announcement, asyncio.TimerHandle]] = {}
        self._lanes: frozenset[tuple[str, str]] = frozenset()
        self._sid = connection.subscribe(f"{ANNOUNCED_UNDER}*".encode(), self._heard)

    def close(self) -> None:
        """Listen no more."""
        self._connection.unsubscribe(self._sid)
        for _, timer in self._said.values():
            timer.cancel()

    def place(self, queue: str, ref: FunctionRef) -> str:
        """Where a call of a function stands in its queue: `call`, or `lane`. HOT: 30 ns while there is no lane."""
        if not self._lanes or (queue, function_words(ref)) not in self._lanes:
            return "call"
        return "lane"

    def limit(self, queue: str, ref: FunctionRef) -> int | None:
        """How many calls of a function its workers have learned to run at once, together; None: no limit."""
        words = function_words(ref)
        limits = [
            said.limits[words]
            for (about, _), (said, _) in self._said.items()
            if about == queue and words in said.limits
        ]
        return sum(limits) if limits else None

    def held_until(self, queue: str, ref: FunctionRef) -> float | None:
        """Until when (Unix seconds) a function asked to be left alone; None: it did not."""
        words = function_words(ref)
        return (
            max(
                (said.held.get(words, 0.0) for (about, _), (said, _) in self._said.items() if about == queue),
                default=0.0,
            )
            or None
        )

    def _heard(self, message: Msg) -> None:
        queue = message.subject.decode("utf-8", "replace").removeprefix(ANNOUNCED_UNDER)
        try:
            said = Announcement.decode(message.payload)
        except ValueError as error:
            log.warning("announcement not understood", queue=queue, error=str(error))
            return
        key = (queue, said.worker)
        before = self._said.get(key)
        if before is not None:
            before[1].cancel()
        self._said[key] = (said, self._loop.call_later(HEARD_S, self._forget, key))
        self._learn()

    def _forget(self, key: tuple[str, str]) -> None:
        del self._said[key]
        self._learn()

    def _learn(self) -> None:
        self._lanes = frozenset((queue, words) for (queue, _), (said, _) in self._said.items() for words in said.lanes)
