"""Whose callback may be tried now: fair shares for the receivers of a worker, and a breaker for each. No I/O.

A receiver is an origin, or a function of the gateway's; `Destination.receiver` names it.

    share      A receiver may have as many callbacks under way as there are places free. So one that never answers holds
               half of them, two hold a third each, and there is always room for another one. The last quarter is for
               receivers that have answered before: a thousand strangers that never do cannot take it.
    stalled    LEAST_STALLED are under way and none was answered for STALLED_S: no more are begun until one ends.
    breaker    After FAILURES attempts in turn that got no answer nothing is sent for a pause, which doubles from
               FIRST_PAUSE_S to LONGEST_PAUSE_S; then one attempt finds out. An answer, whatever its status, closes it.

What may not begin waits for its turn elsewhere: `comes_again_s` spreads it over time, AGAIN_RATE of a receiver in a
second, so that a hundred thousand callbacks to one that is down cost next to nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

FAILURES = 5
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
STALLED_S = 1.0
LEAST_STALLED = 8
KEPT_SHARE = 4
# Of the places, one in so many is for receivers that have answered.
AGAIN_AFTER_S = 1.0
AGAIN_RATE = 250.0
PATIENCE_S = 0.1
# How long the end of a run waits for a place with a receiver that is answering: one that answers 1,000 callbacks a
# second has then freed a hundred. It is what slows runs down to what their receiver takes.
MOST_KNOWN = 4096
# Receivers that are remembered; those with nothing under way are forgotten first, the oldest first.

log = structlog.get_logger()


class Receiver:
    """What is known of one receiver. The one who began an attempt holds it until `Receivers.ended`."""

    __slots__ = (
        "again_at",
        "answered_at",
        "busy_since",
        "failures",
        "last_error",
        "name",
        "open_until",
        "pause_s",
        "under_way",
        "waiting",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.under_way = 0
        self.busy_since = 0.0
        """Since when something has been under way, by the loop's clock."""
        self.answered_at = 0.0
        """When it answered last; 0: never."""
        self.failures = 0
        """Attempts in turn without an answer."""
        self.open_until = 0.0
        """Until when nothing is sent; 0: the breaker is closed."""
        self.pause_s = 0.0
        self.again_at = 0.0
        """When the latest of those that were sent away comes again."""
        self.last_error = ""
        self.waiting: deque[asyncio.Future[bool]] = deque()
        """Those that wait for a place for PATIENCE_S at most."""


class Receivers:
    """The receivers of one worker, and its places for callbacks under way."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._kept = places // KEPT_SHARE
        self._total = 0
        self._known: dict[str, Receiver] = {}
        self._loop = asyncio.get_running_loop()

    @property
    def under_way(self) -> int:
        """Callbacks under way to all receivers."""
        return self._total

    def try_begin(self, name: str) -> Receiver | None:
        """Take a place for a callback if it may be tried now; `ended` must follow. HOT: 0.3 µs."""
        found = self._known.get(name)
        if found is None:
            found = self._add(name)
        if not self._may_begin(found):
            return None
        self._begin(found)
        return found

    async def begin_soon(self, name: str) -> Receiver | None:
        """Wait PATIENCE_S for a place with a receiver that is answering; `ended` must follow when it got one."""
        found = self._known.get(name)
        if found is None or found.open_until or self._loop.time() - found.answered_at > PATIENCE_S:
            return None
        place: asyncio.Future[bool] = self._loop.create_future()
        found.waiting.append(place)
        try:
            await asyncio.wait([place], timeout=PATIENCE_S)
        except asyncio.CancelledError:
            if place.done():
                self.ended(found, answered=None)
            raise
        finally:
            if not place.done():
                place.cancel()
                found.waiting.remove(place)
        return None if place.cancelled() else found

    def ended(self, found: Receiver, *, answered: bool | None, error: Exception | None = None) -> None:
        """An attempt has ended. HOT: 0.3 µs.

        `answered`: whether the receiver said anything, whatever it was; None: it was not asked, or it is not known.
        """
        found.under_way -= 1
        self._total -= 1
        if answered:
            found.answered_at = self._loop.time()
            found.failures = 0
            if found.open_until:
                found.open_until = found.pause_s = 0.0
                log.info("receiver answers again", receiver=found.name)
        elif answered is False:
            self._failed(found, self._loop.time(), error)
        while found.waiting and self._may_begin(found):
            place = found.waiting.popleft()
            if not place.done():
                self._begin(found)
                place.set_result(True)

    def answers(self, found: Receiver) -> bool:
        """Whether a receiver answered what was sent to it last."""
        return found.answered_at > 0 and not found.failures and not self._stalled(found)

    def comes_again_s(self, name: str) -> float:
        """When a callback that may not be tried now should come again, in seconds from now."""
        found = self._known.get(name) or self._add(name)
        now = self._loop.time()
        found.again_at = max(found.again_at, found.open_until, now + AGAIN_AFTER_S) + 1 / AGAIN_RATE
        return found.again_at - now

    def trouble(self, name: str) -> str:
        """Why a callback may not be tried now, in words."""
        found = self._known.get(name)
        if found is None or not found.open_until:
            return f"{name} has as many callbacks under way as it may"
        return f"{name} does not answer: {found.last_error}"

    # ----

    def _may_begin(self, found: Receiver) -> bool:
        free = self._places - self._total
        if found.open_until:
            return self._loop.time() >= found.open_until and not found.under_way and free > 0
        if found.under_way >= free or (free <= self._kept and not found.answered_at):
            return False
        return found.under_way < LEAST_STALLED or not self._stalled(found)

    def _stalled(self, found: Receiver) -> bool:
        if found.under_way < LEAST_STALLED:
            return False
        return self._loop.time() - max(found.answered_at, found.busy_since) > STALLED_S

    def _begin(self, found: Receiver) -> None:
        if not found.under_way:
            found.busy_since = self._loop.time()
        found.under_way += 1
        self._total += 1

    def _failed(self, found: Receiver, now: float, error: Exception | None) -> None:
        found.failures += 1
        found.last_error = str(error)
        if found.failures < FAILURES or now < found.open_until:
            return
        if not found.open_until:
            log.warning("receiver does not answer, its callbacks wait", receiver=found.name, error=str(error))
        found.pause_s = min(max(FIRST_PAUSE_S, 2 * found.pause_s), LONGEST_PAUSE_S)
        found.open_until = now + found.pause_s

    def _add(self, name: str) -> Receiver:
        if len(self._known) >= MOST_KNOWN:
            idle = [other for other, found in self._known.items() if not found.under_way and not found.waiting]
            for other in idle[: MOST_KNOWN // 8]:
                del self._known[other]
        found = self._known[name] = Receiver(name)
        return found
