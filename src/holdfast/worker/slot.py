"""One delivery's stay in a slot: when it leaves the slot, and what becomes of it. No I/O.

The two are different moments. A call leaves its slot when its run has ended, so that another one can begin; its
delivery stays unacknowledged until all that follows is done, or written where it cannot be lost.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from holdfast.function import FunctionRef
from holdfast.queue.consumer import Consumer
from holdfast.queue.delivery import Delivery
from holdfast.worker.lane import Lane
from holdfast.worker.turns import Turns


class Settlement(enum.Enum):
    """What becomes of a delivery."""

    DONE = "acknowledged: what follows is written elsewhere, or the call has ended"
    HANDED_BACK = "given back to the queue at once, for another worker"
    REJECTED = "removed from the queue: it cannot be read, now or ever"


WhenLeft = Callable[[], None]
"""Called once, when another call may have the slot."""


class Slot:
    """A slot with a delivery in it."""

    __slots__ = ("_consumer", "_left", "_ref", "_turns", "_when_left", "delivery", "lane")

    def __init__(
        self, delivery: Delivery, consumer: Consumer, lane: Lane | None, turns: Turns, when_left: WhenLeft
    ) -> None:
        self.delivery = delivery
        self.lane = lane
        """Where the delivery stood; None for the line."""
        self._consumer = consumer
        self._turns = turns
        self._when_left = when_left
        self._ref: FunctionRef | None = None
        self._left = False

    @property
    def limited(self) -> bool:
        """Whether the delivery counts against the limit of its function for as long as it is not acknowledged."""
        return self.lane is not None and self.lane.limit is not None

    def begun(self, ref: FunctionRef) -> None:
        """It is the call's turn: `leave` gives that back as well."""
        self._ref = ref

    def leave(self) -> None:
        """Let another call have the slot; a second time does nothing. HOT."""
        if self._left:
            return
        self._left = True
        if self._ref is not None:
            self._turns.end(self._ref)
        self._consumer.free()
        self._when_left()

    def settle(self, settlement: Settlement) -> None:
        """The only place where a delivery is acknowledged, handed back or removed. A second time does nothing."""
        if settlement is Settlement.DONE:  # HOT: what becomes of nearly all
            self.delivery.ack()
        elif settlement is Settlement.HANDED_BACK:
            self.delivery.nak()
        else:
            self.delivery.term("cannot be read")
