"""The metrics as they are read: what one process counted or all that share a folder, and what is found elsewhere.

Which metrics there are is telemetry's. Under `holdfast serve` all gateways and workers count in files in one folder
(PROMETHEUS_MULTIPROC_DIR), which stay when a process ends and are summed up when the server starts again.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Metric,
    generate_latest,
    multiprocess,
    values,
)
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.registry import Collector

from holdfast.owed import SUFFIX as OWED_SUFFIX
from holdfast.tally import write_all
from holdfast.telemetry import (
    ALSO_AS,
    INVOCATIONS,
    SERVICE_COUNT,
    SERVICE_MIN,
    SERVICE_READY,
    SERVICE_TARGET,
    Derived,
)

log = structlog.get_logger()


class Service(NamedTuple):
    """A deployed function as the metrics show it."""

    function_name: str
    replicas: float
    ready: float
    least: float
    target: float


class Shown(NamedTuple):
    """A derived gauge's values at this moment, each with the values of its labels."""

    derived: Derived
    values: list[tuple[tuple[str, ...], float]]


def services_shown(services: Iterable[Service]) -> list[Shown]:
    """The gauges of deployed functions."""
    known = list(services)
    return [
        Shown(derived, [((service.function_name,), float(service[index])) for service in known])
        for index, derived in enumerate((SERVICE_COUNT, SERVICE_READY, SERVICE_MIN, SERVICE_TARGET), start=1)
    ]


def exposition(shown: Iterable[Shown] = ()) -> tuple[bytes, str]:
    """The metrics as Prometheus text and its content type: of this process, or of all that share the folder."""
    write_all()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Exposed(list(shown)))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Exposed(Collector):
    """What was counted, what is derived from it, and what was found elsewhere."""

    def __init__(self, shown: list[Shown]) -> None:
        self._shown = shown

    def collect(self) -> Iterator[Metric]:
        for metric in _counted():
            yield metric
            also = ALSO_AS.get(metric.name)
            if also is not None:
                yield _gauge(also, [((sample.labels["function_name"],), sample.value) for sample in metric.samples])
        yield from (_gauge(*shown) for shown in self._shown if shown.values)


def _gauge(derived: Derived, values: list[tuple[tuple[str, ...], float]]) -> Metric:
    metric = Metric(derived.name, derived.documentation, "gauge")
    for labels, value in values:
        metric.add_sample(derived.name, dict(zip(derived.labels, labels, strict=True)), value)
    return metric


def _counted() -> Iterable[Metric]:
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return REGISTRY.collect()
    return multiprocess.MultiProcessCollector(None).collect()  # type: ignore[no-untyped-call, no-any-return]


def invocations() -> dict[str, int]:
    """How many requests of each function, by `name.namespace`, were answered: by all gateways that share the folder.

    Reads the counters only, not the histograms beside them: about 3 ms for a hundred functions and four gateways.
    """
    write_all()
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder:
        files = [str(path) for path in Path(folder).glob("counter_*.db")]
        metrics: Iterable[Metric] = multiprocess.MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    else:
        metrics = INVOCATIONS.collect()
    counts: dict[str, int] = {}
    for metric in metrics:
        for sample in metric.samples:
            if sample.name == "gateway_function_invocation_total":
                name = sample.labels["function_name"]
                counts[name] = counts.get(name, 0) + int(sample.value)
    return counts


def count_in(folder: Path) -> None:
    """Have this process, and those that it starts, count in a folder that was not there yet when it started.

    What has labels and was not counted before is counted there.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


def forget_process(pid: int, folder: Path) -> None:
    """Remove the gauges of a process that has ended, so that what it had in flight does not count for ever."""
    multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def carry_over(folder: Path) -> None:
    """Make the folder of metrics ready for a new run: one file with the counts of the last one, and what is owed.

    Gauges and histograms begin anew. Made beside the old folder and put in its place, so that a crash in between
    neither loses a count nor doubles it.
    """
    old, fresh = folder.with_name(folder.name + ".old"), folder.with_name(folder.name + ".new")
    if old.exists() and not folder.exists():
        old.rename(folder)
    for leftover in (old, fresh):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if not folder.exists():
        fresh.rename(folder)
        return
    sums: dict[str, float] = {}
    for path in folder.glob("counter_*.db"):
        try:
            read = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
            counts = [(key, value) for key, value, _, _ in read]
        except (ValueError, RuntimeError, struct.error) as error:
            # As after a loss of power: worth a line, not a server that does not start.
            log.warning("counts of an earlier run cannot be read", file=path.name, error=str(error))
            continue
        for key, value in counts:
            sums[key] = sums.get(key, 0.0) + value
    # No process has the id 0.
    kept = MmapedDict(str(fresh / "counter_0.db"))  # type: ignore[no-untyped-call]
    for key, value in sums.items():
        kept.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    kept.close()  # type: ignore[no-untyped-call]
    for path in folder.glob(f"*{OWED_SUFFIX}"):
        shutil.copyfile(path, fresh / path.name)
    folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old)
