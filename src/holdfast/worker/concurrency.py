"""Learn how many calls a function takes at once, from what it answers. No I/O; times are passed in.

429 and 503 are a function's words for "too many". The first that comes halves the number of calls that are run at once;
what had begun before that halving says nothing new. When all is well again one more is tried, then two more, four more,
as long as that goes well; a try that fails is taken back, and the next one has to wait twice as many good answers. A
number that has grown to all slots is no limit and is forgotten.

`Retry-After` is meant for the function, not for the one call that got it: nothing of the function is begun until then.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.function import FunctionRef

TOO_MANY = frozenset({429, 503})
LONGEST_HOLD_S = 300.0
# A function may ask to be left alone; its other calls must not wait for ever because one answer said "in a year".
MOST_PATIENCE = 64


class Learned:
    """What is known of one function."""

    __slots__ = ("good", "held_until", "limit", "patience", "since", "step", "trying")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.since = 0.0
        """When the limit was last lowered: calls begun before that were begun under another."""
        self.held_until = 0.0
        self.good = 0
        """Good answers since the limit last changed."""
        self.patience = 1
        """How many rounds of good answers there must be before more is tried."""
        self.step = 1
        self.trying = 0
        """By how much the limit was raised and has not proved itself yet."""


class Concurrency:
    """The learned limits of the functions of one worker."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._learned: dict[FunctionRef, Learned] = {}

    def __bool__(self) -> bool:
        """Whether anything is known: HOT, so that a worker without limits pays for nothing else."""
        return bool(self._learned)

    def __iter__(self) -> Iterator[tuple[FunctionRef, Learned]]:
        return iter(self._learned.items())

    def held(self, now: float) -> list[tuple[FunctionRef, float]]:
        """The functions that are left alone, and until when."""
        return [(ref, learned.held_until) for ref, learned in self._learned.items() if learned.held_until > now]

    def limit(self, ref: FunctionRef, now: float) -> int:
        """How many calls of a function may run at once now; 0 while it is to be left alone."""
        learned = self._learned.get(ref)
        if learned is None:
            return self._slots
        return 0 if now < learned.held_until else learned.limit

    def too_many(self, ref: FunctionRef, running: int, began: float, now: float, retry_after_s: float | None) -> None:
        """The function answered 429 or 503 to a call that began at `began`, while `running` calls were under way."""
        learned = self._learned.get(ref)
        if learned is None:
            learned = self._learned[ref] = Learned(self._slots)
        if retry_after_s is not None:
            learned.held_until = max(learned.held_until, now + min(retry_after_s, LONGEST_HOLD_S))
        if began < learned.since:
            return
        if learned.trying:
            learned.limit -= learned.trying
            learned.patience = min(2 * learned.patience, MOST_PATIENCE)
        else:
            learned.limit = max(1, min(learned.limit, running) // 2)
        learned.since = now
        learned.step = 1
        learned.good = learned.trying = 0

    def well(self, ref: FunctionRef, began: float) -> None:
        """The function answered something else to a call that began at `began`."""
        learned = self._learned.get(ref)
        if learned is None or began < learned.since:
            return
        learned.good += 1
        if learned.trying and learned.good >= learned.limit:
            # A whole round under the new limit went well.
            learned.trying = learned.good = 0
            learned.step *= 2
            learned.patience = max(1, learned.patience // 2)
        elif not learned.trying and learned.good >= learned.limit * learned.patience:
            learned.good = 0
            learned.trying = learned.step
            learned.limit += learned.step
            if learned.limit >= self._slots:
                del self._learned[ref]
