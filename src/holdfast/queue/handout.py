"""Deliveries on their way to the slots that wait for them, first come first served. No I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from holdfast.errors import QueueError
from holdfast.queue.delivery import Delivery


class Stopped(QueueError):
    """The consumer takes no more calls."""


class Handout:
    """Gives each delivery to a slot that waits, else keeps it for the next that comes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[Delivery | None]] = deque()
        self._arrived: deque[Delivery] = deque()
        self._stopped = False

    async def next(self) -> Delivery:
        """The next delivery, for one slot. Raises Stopped."""
        if self._stopped:
            raise Stopped("the consumer was stopped")
        if self._arrived:
            return self._arrived.popleft()
        waiter: asyncio.Future[Delivery | None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            delivery = await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                with suppress(ValueError):  # passed over already
                    self._waiting.remove(waiter)
            elif (delivery := waiter.result()) is not None:
                # Handed over and cancelled in the same turn: another slot takes it, or the queue takes it back.
                self.give(delivery)
            raise
        if delivery is None:
            raise Stopped("the consumer was stopped")
        return delivery

    def give(self, delivery: Delivery) -> None:
        """Hand a delivery on. HOT."""
        if self._stopped:
            delivery.nak()
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(delivery)
                return
        self._arrived.append(delivery)

    def stop(self) -> None:
        """Give nothing more: who waits hears it, what no slot has fetched goes back to the queue."""
        self._stopped = True
        while self._arrived:
            self._arrived.popleft().nak()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
