"""How many replicas a function should have: from its labels, its load and how long nobody called it. No I/O, no clock.

OpenFaaS's formula, where the load of all ready replicas together stands above the line:

    desired = ceil(ready x load per replica / (target x proportion)), within min..max

Up at once. Down only to the highest number that was desired within a quiet window, so that a pause between two bursts
costs no cold start. Measuring and acting are left to autoscaler.py.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from holdfast import labels
from holdfast.duration import format_duration, parse_duration
from holdfast.errors import DeploymentError

MOST_REPLICAS = 100
"""Of one function on one machine."""

RPS = "rps"
CAPACITY = "capacity"
CPU = "cpu"
QUEUE = "queue"
KINDS = (RPS, CAPACITY, CPU, QUEUE)
_UNITS = {RPS: "calls a second", CAPACITY: "calls at a time", CPU: "millicores", QUEUE: "calls waiting"}

# 0.9 x 50 is 45.00000000000001 in floats: a load of exactly two replicas must not ask for a third.
_ROUNDING = 1e-6

REPORT_S = 1.0
"""How often watchdogs report, as long as calls come or run."""

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
# What Go's strconv.ParseBool takes, which reads these labels in OpenFaaS.


class Rules(NamedTuple):
    """What a function's labels ask for."""

    least: int = labels.DEFAULT_MIN
    most: int = labels.DEFAULT_MAX
    kind: str = ""
    """What is measured, one of KINDS; empty: load changes nothing."""
    per_replica: float = labels.DEFAULT_TARGET * labels.DEFAULT_PROPORTION
    """The load that one replica carries before another is wanted: target x proportion."""
    idle_s: float = math.inf
    """After so long without a call the function goes to zero; infinite: never."""

    @property
    def scales(self) -> bool:
        """Whether the number of replicas ever changes by itself."""
        return bool(self.kind) or self.idle_s != math.inf


class Decision(NamedTuple):
    """How many replicas there should be from now on, and why."""

    replicas: int
    reason: str


def rules_of(function: str, given: Mapping[str, str], *, queues_known: bool = True) -> Rules:
    """Read a deployment's labels. Raises DeploymentError for one that cannot be used.

    `queues_known`: whether somebody tells how many calls wait in the queues.

    Load scales a function that names a type or a target, unless its minimum is its maximum. OpenFaaS scales every
    function: on one machine, where another replica is not another processor, it has to be asked for.
    """

    def refused(name: str, expected: str) -> DeploymentError:
        return DeploymentError(function, f"label {name} is {given[name]!r:.100}: expected {expected}")

    def whole(name: str, default: int, least: int, most: int) -> int:
        text = given.get(name, str(default)).strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
            raise refused(name, f"a whole number from {least} to {most}")
        return int(text)

    def number(name: str, default: float, most: float) -> float:
        try:
            value = float(given.get(name, default))
        except ValueError:
            value = math.nan
        if not 0 < value <= most:  # which NaN is not
            raise refused(name, f"a number above 0 and up to {most:,.0f}")
        return value

    least = whole(labels.SCALE_MIN, labels.DEFAULT_MIN, 1, MOST_REPLICAS)
    most = whole(labels.SCALE_MAX, max(least, labels.DEFAULT_MAX), 1, MOST_REPLICAS)
    if most < least:
        raise refused(labels.SCALE_MAX, f"at least {labels.SCALE_MIN}, which is {least}")
    whole(labels.SCALE_FACTOR, labels.DEFAULT_FACTOR, 0, 100)
    kind = given.get(labels.SCALE_TYPE, labels.DEFAULT_TYPE)
    if kind not in KINDS:
        raise refused(labels.SCALE_TYPE, " or ".join(KINDS))
    if kind == QUEUE and not queues_known:
        raise refused(
            labels.SCALE_TYPE, f"{RPS}, {CAPACITY} or {CPU}, or the provider's setting gateway_url, to ask what waits"
        )
    target = number(labels.SCALE_TARGET, labels.DEFAULT_TARGET, 1e9)
    proportion = number(labels.SCALE_PROPORTION, labels.DEFAULT_PROPORTION, 1)
    if least == most or not {labels.SCALE_TYPE, labels.SCALE_TARGET} & given.keys():
        kind = ""
    to_zero = given.get(labels.SCALE_ZERO, "false")
    if to_zero not in _TRUE | _FALSE:
        raise refused(labels.SCALE_ZERO, "true or false")
    try:
        idle_s = parse_duration(given.get(labels.SCALE_ZERO_DURATION, str(int(labels.DEFAULT_ZERO_DURATION_S))))
    except ValueError:
        idle_s = 0.0
    if idle_s <= 0:
        raise refused(labels.SCALE_ZERO_DURATION, "a duration above zero such as 15m")
    return Rules(least, most, kind, target * proportion, idle_s if to_zero in _TRUE else math.inf)


def desired(rules: Rules, load: float) -> int:
    """Replicas for the load of all replicas together."""
    needed = math.ceil(load / rules.per_replica - _ROUNDING)
    return min(max(needed, rules.least), rules.most)


def decide(rules: Rules, *, replicas: int, load: float | None, idle_s: float, lately: int) -> Decision:
    """Replicas there should be from now on.

    Args:
        rules: What the labels ask for.
        replicas: How many are wanted now. At zero the function stays there: a call wakes it.
        load: Of all replicas together, in the unit of the rules' kind; None: it could not be measured.
        idle_s: How long no call has begun or run.
        lately: The highest number that was desired within the quiet window, this moment included.
    """
    if replicas == 0:
        return Decision(0, "at zero")
    if idle_s >= rules.idle_s:
        return Decision(0, f"no call for {format_duration(rules.idle_s)}")
    if not rules.kind or load is None:
        return Decision(replicas, "as it is")
    now = max(desired(rules, load), min(replicas, lately))
    return Decision(now, f"{load:.1f} {_UNITS[rules.kind]}, {rules.per_replica:g} for each replica")


class Load:
    """The calls of a function's replicas, averaged over `window_s`.

    A report is of the second before it. So that the second that no replica has reported yet does not count as one
    without calls, the window ends a second ago.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._reports: deque[tuple[float, int, float]] = deque()

    def add(self, now: float, begun: int, ran_s: float) -> None:
        """What was not reported before: calls begun, and seconds that calls ran, or the processor for them."""
        # Here and not only in `of`: of a function that load does not scale nobody asks for it.
        self._forget(now)
        self._reports.append((now, begun, ran_s))

    def of(self, kind: str, now: float) -> float:
        """Calls begun in a second, or calls that ran, or cores that were busy, at a time; on average."""
        self._forget(now)
        end = now - REPORT_S
        begin = end - self._window_s
        total = 0.0
        for at, begun, ran_s in self._reports:
            share = (min(at, end) - max(at - REPORT_S, begin)) / REPORT_S
            if share > 0:
                total += share * (begun if kind == RPS else ran_s)
        return total / self._window_s

    def __len__(self) -> int:
        """How many reports are remembered."""
        return len(self._reports)

    def _forget(self, now: float) -> None:
        """What came before the window counts no more."""
        while self._reports and self._reports[0][0] <= now - REPORT_S - self._window_s:
            self._reports.popleft()


class Lately:
    """The highest number of replicas that was desired within the last `window_s`."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, int]] = deque()
        # Numbers fall from left to right: one that is followed by a higher one can never be the highest again.

    def add(self, now: float, number: int) -> int:
        """Take the number of now; gives the highest."""
        while self._seen and self._seen[0][0] <= now - self._window_s:
            self._seen.popleft()
        while self._seen and self._seen[-1][1] <= number:
            self._seen.pop()
        self._seen.append((now, number))
        return self._seen[0][1]
