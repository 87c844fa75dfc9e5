"""Latencies in, percentiles out. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TypedDict


class Latency(TypedDict):
    """A distribution in milliseconds. Percentiles by nearest rank: each is a value that was measured."""

    p50: float
    p90: float
    p99: float
    max: float


def latency(seconds: Sequence[float]) -> Latency | None:
    """The distribution of at least one measured duration; None when there is none."""
    if not seconds:
        return None
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(ordered[ceil(share * len(ordered)) - 1] * 1e3, 3)

    return Latency(p50=at(0.50), p90=at(0.90), p99=at(0.99), max=at(1.0))


def steady_rate(times: Sequence[float]) -> float:
    """Events per second between 5 % and 95 % of the events, so that start and tail do not count. 0: too few events."""
    ordered = sorted(times)
    first, last = len(ordered) // 20, len(ordered) - 1 - len(ordered) // 20
    if last - first < 10 or ordered[last] <= ordered[first]:
        return 0.0
    return (last - first) / (ordered[last] - ordered[first])
