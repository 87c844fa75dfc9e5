"""The metrics of a running server, read as Prometheus reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from tests.support.serving import Serving

AGAIN_S = 0.05
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


async def metrics_when(server: Serving, shown: Callable[[Metrics], bool], timeout_s: float = 20) -> Metrics:
    """Read them until they show something; the last reading is told when they do not."""
    found = await metrics(server)
    try:
        async with asyncio.timeout(timeout_s):
            while not shown(found):
                await asyncio.sleep(AGAIN_S)
                found = await metrics(server)
    except TimeoutError:
        raise AssertionError(f"not shown within {timeout_s} s; the last reading:\n{found}") from None
    return found
