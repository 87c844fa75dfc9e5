"""Logs and metrics: one set of field names and one set of metric names for every part.

Metric names are OpenFaaS's where it has the metric, `holdfast_…` otherwise. Labels come only from functions that exist,
so that callers cannot make them grow. Under `holdfast serve` all gateways and workers write to files in one folder (PROMETHEUS_MULTIPROC_DIR), so any gateway's /metrics shows the sum.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

from holdfast.settings import LogSettings

# --- gateway ---
INVOCATION_SECONDS = Histogram(
    "gateway_functions_seconds",
    "Time from a request's head to its answer: the run of a synchronous call, the accepting of an asynchronous one.",
    ["function_name", "code"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
INVOCATIONS = Counter("gateway_function_invocation", "Requests answered, by HTTP status.", ["function_name", "code"])
# A counter in all but name: OpenFaaS shows it without the suffix `_total`, which the client library gives every Counter.
INVOCATIONS_STARTED = Gauge(
    "gateway_function_invocation_started", "Requests begun.", ["function_name"], multiprocess_mode="sum"
)
INVOCATIONS_INFLIGHT = Gauge(
    "gateway_function_invocation_inflight",
    "Requests begun and not yet answered.",
    ["function_name"],
    multiprocess_mode="livesum",
)
GATEWAY_RECONNECTS = Counter("gateway_nats_reconnect", "Connections to NATS made again after a loss.")
REFUSED = Counter("holdfast_gateway_refused", "Asynchronous calls refused, by HTTP status.", ["code"])

# --- worker ---
WORKER_TAKEN = Counter(
    "queue_worker_messages_submitted", "Calls taken from the queue.", ["queue_name", "function_name"]
)
WORKER_PROCESSED = Counter(
    "queue_worker_messages_processed",
    "Calls ended, by the function's HTTP status.",
    ["queue_name", "function_name", "code"],
)
WORKER_INFLIGHT = Gauge(
    "queue_worker_function_invocation_inflight",
    "Calls being run.",
    ["queue_name", "function_name"],
    multiprocess_mode="livesum",
)
WORKER_RECONNECTS = Counter("queue_worker_nats_reconnect", "Connections to NATS made again after a loss.")
CALLBACKS = Counter("holdfast_callbacks", "Callbacks ended, by outcome: delivered or given_up.", ["outcome"])
CALLBACK_RETRIES = Counter("holdfast_callback_retries", "Attempts of a callback after its first.")
RUN_AGAIN = Counter("holdfast_function_attempts_again", "Attempts made again since the function's connection was lost.")


def configure_logging(settings: LogSettings, part: str) -> None:
    """Send every log line of this process to standard error as one event with fields, `part` among them."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor
    if settings.encoding == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"), pad_event_to=0, pad_level=False
        )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(part=part)
    # Libraries (nats-py, asyncio) log through the standard library: the same form, warnings and worse.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def exposition() -> tuple[bytes, str]:
    """The metrics as Prometheus text and its content type: of this process, or of all that share the folder."""
    registry: CollectorRegistry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


def forget_process(pid: int) -> None:
    """Remove the gauges of a process that has ended, so that what it had in flight does not count for ever."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
