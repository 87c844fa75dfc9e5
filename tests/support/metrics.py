"""The metrics of a running server, read as Prometheus reads them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from prometheus_client.parser import text_string_to_metric_families

from tests.support.serving import Serving

AGAIN_S = 0.05
STAYS_S = 3.0
# A sum that is right by chance, as while a call moves, is not right for longer than between two looks at what is owed.
# Metrics have no event; they are looked at until they show what is awaited.


class Metrics:
    """One reading."""

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def __str__(self) -> str:
        """What is counted of calls and of their callbacks."""
        ours = [sample for sample in self._samples if sample.name.startswith("holdfast_") and sample.value]
        return "\n".join(f"{sample.name} {sample.labels} {sample.value:g}" for sample in ours)

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        return sum(
            sample.value for sample in self._samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """The labels and the value of each sample of this name."""
        return [(dict(sample.labels), sample.value) for sample in self._samples if sample.name == name]

    @property
    def accepted(self) -> float:
        return self.total("holdfast_calls_accepted_total")

    @property
    def unaccounted(self) -> float:
        """Accepted calls that are neither in a queue nor ended, by the metrics; 0 when the sum is right."""
        open_ = self.total("holdfast_calls_in_queue")
        return self.accepted - open_ - self.total("holdfast_calls_ended_total")


async def metrics(server: Serving) -> Metrics:
    """Read them now."""
    answer = await server.client.get(server.ready["metrics"] + "/metrics")
    assert answer.status_code == 200, answer.text
    return Metrics(answer.text)


async def accounted_for(server: Serving | Callable[[], Awaitable[Metrics]], timeout_s: float = 60) -> Metrics:
    """Read them until accepted is the sum of all ends and of what waits, and stays it: due a minute after any fault."""
    right_since: float | None = None

    def stays_right(now: Metrics) -> bool:
        nonlocal right_since
        if now.unaccounted != 0:
            right_since = None
        elif right_since is None:
            right_since = time.monotonic()
        return right_since is not None and time.monotonic() - right_since > STAYS_S

    return await metrics_when(server, stays_right, timeout_s)


async def metrics_when(
    server: Serving | Callable[[], Awaitable[Metrics]], shown: Callable[[Metrics], bool], timeout_s: float = 20
) -> Metrics:
    """Read them until they show something; the last reading is told when they do not."""

    async def read() -> Metrics:
        return await (metrics(server) if isinstance(server, Serving) else server())

    found = await read()
    try:
        async with asyncio.timeout(timeout_s):
            while not shown(found):
                await asyncio.sleep(AGAIN_S)
                found = await read()
    except TimeoutError:
        raise AssertionError(f"not shown within {timeout_s} s; the last reading:\n{found}") from None
    return found
