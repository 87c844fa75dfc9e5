"""Logs and metrics: one set of field names and one set of metric names for every part.

Metric names are OpenFaaS's where it has the metric, `holdfast_…` otherwise. Labels come only from functions that exist,
so that callers cannot make them grow. Under `holdfast serve` all gateways and workers write to files in one folder
(PROMETHEUS_MULTIPROC_DIR), so any gateway's /metrics shows the sum.
"""

from __future__ import annotations

import logging
import os
import re
from typing import NamedTuple, TextIO, cast

import structlog
from prometheus_client import (
    Counter,
    Gauge,
    Histogram,
)

from holdfast import unexpected
from holdfast.function import FunctionRef
from holdfast.line_writer import LineWriter
from holdfast.owed import OWED
from holdfast.settings import LogSettings
from holdfast.tally import Observations, Tally
from holdfast.unexpected import Telling, Work

# --- gateway ---
INVOCATION_SECONDS = Histogram(
    "gateway_functions_seconds",
    "Time from a request's head to its answer: the run of a synchronous call, the accepting of an asynchronous one.",
    ["function_name", "code"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
INVOCATIONS = Counter("gateway_function_invocation", "Requests answered, by HTTP status.", ["function_name", "code"])
# A counter in all but name: OpenFaaS shows it without the suffix `_total`, which the library gives every Counter.
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
REFUSED = Counter(
    "holdfast_gateway_refused",
    "Calls that a gateway refused, synchronous ones too, and requests that it could not read, by HTTP status.",
    ["code"],
)
HTTP_REQUESTS = Counter("http_requests", "Requests to /system answered.", ["method", "path", "status"])
HTTP_SECONDS = Histogram(
    "http_request_duration_seconds",
    "Time from the head of a request to /system to the end of its answer.",
    ["method", "path", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)


class Derived(NamedTuple):
    """A gauge that nobody sets: it is made anew for each exposition."""

    name: str
    documentation: str
    labels: tuple[str, ...] = ("function_name",)


# What the provider says of each function when the gateway's metrics are read.
SERVICE_COUNT = Derived("gateway_service_count", "Replicas of the function.")
SERVICE_READY = Derived("gateway_service_ready_count", "Replicas of the function that are ready.")
SERVICE_MIN = Derived("gateway_service_min", "Least number of replicas: the label `com.openfaas.scale.min`, or 1.")
SERVICE_TARGET = Derived(
    "gateway_service_target", "Load that one replica should carry: the label `com.openfaas.scale.target`, or 50."
)
# OpenFaaS's documents call these two otherwise than its gateway does; dashboards exist for both spellings.
STARTED_AS_DOCUMENTED = Derived(
    "gateway_invocation_function_started", "The same as `gateway_function_invocation_started`."
)
INFLIGHT_AS_DOCUMENTED = Derived(
    "gateway_invocation_function_invocation_inflight", "The same as `gateway_function_invocation_inflight`."
)
ALSO_AS = {
    "gateway_function_invocation_started": STARTED_AS_DOCUMENTED,
    "gateway_function_invocation_inflight": INFLIGHT_AS_DOCUMENTED,
}

# --- the life of calls ---
# accepted = in a queue + ended, and a metric shows each term: docs/decisions/0010 says over which time it holds.
ACCEPTED = Counter(
    "holdfast_calls_accepted",
    "Calls stored in a queue: each with its 202, and each dead letter put back.",
    ["function_name"],
)
ENDED = Counter(
    "holdfast_calls_ended",
    "Calls ended, by status: succeeded, failed, cancelled or expired.",
    ["function_name", "status"],
)
QUEUE_WAIT = Histogram(
    "holdfast_queue_wait_seconds",
    "Time from a call's acceptance to a worker's beginning with it; without delayed calls and further runs.",
    ["queue_name"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200),
)
RETRIES = Counter(
    "holdfast_retries",
    "Runs that are followed by another, by reason: the function's status, or why it gave none.",
    ["function_name", "reason"],
)
DEAD_LETTERS = Counter(
    "holdfast_dead_letters",
    "Calls that became dead letters, by reason: the function's last status, or why it gave none.",
    ["function_name", "reason"],
)
DUPLICATES_AVOIDED = Counter(
    "holdfast_duplicates_avoided",
    "Calls not run again: `delivered_again` by NATS, `recorded` as ended, or sent again with an `idempotency_key`.",
    ["kind"],
)
RUN_TWICE = Counter("holdfast_calls_run_twice", "Calls that two workers ended: the first record stands.")
UNREADABLE = Counter("holdfast_messages_unreadable", "Messages removed from a queue since they are not calls.")

# What the streams hold when the gateway's metrics are read.
CALLS_IN_QUEUE = Derived(
    "holdfast_calls_in_queue", "Accepted calls that have not ended: waiting, scheduled or running.", ("queue_name",)
)
PENDING_MESSAGES = Derived(
    "queue_worker_pending_messages",
    "Calls that could run and that no worker has taken. A function without any is left out.",
    ("queue_name", "function_name"),
)
OLDEST_AGE = Derived(
    "holdfast_queue_oldest_age_seconds",
    "How long the oldest of them could have run; 0: none waits.",
    ("queue_name",),
)
QUEUE_WORKERS = Derived("holdfast_queue_workers", "Workers that serve the queue.", ("queue_name",))
QUEUE_SLOTS = Derived("holdfast_queue_max_inflight", "Calls that they run at once together.", ("queue_name",))
QUEUE_PAUSED = Derived("holdfast_queue_paused", "1 while the queue is paused, else 0.", ("queue_name",))
CALL_RECORDS = Derived("holdfast_call_records", "Records of calls that can be asked for.", ())
DEAD_LETTERS_KEPT = Derived("holdfast_dead_letters_kept", "Dead letters that wait to be replayed or dropped.", ())
CALLBACKS_PARKED = Derived("holdfast_callbacks_parked", "Callbacks that wait for their next attempt.", ())

# --- worker ---
WORKER_TAKEN = Counter(
    "queue_worker_messages_submitted", "Calls taken from the queue.", ["queue_name", "function_name"]
)
WORKER_PROCESSED = Counter(
    "queue_worker_messages_processed",
    "Runs ended, by the function's HTTP status; a call that is retried has several.",
    ["queue_name", "function_name", "code"],
)
WORKER_INFLIGHT = Gauge(
    "queue_worker_function_invocation_inflight",
    "Calls being run.",
    ["queue_name", "function_name"],
    multiprocess_mode="livesum",
)
WORKER_RECONNECTS = Counter("queue_worker_nats_reconnect", "Connections to NATS made again after a loss.")
CALLBACKS = Counter(
    "holdfast_callbacks",
    "Callbacks ended, by outcome: delivered, given_up, or cancelled once their call had ended.",
    ["outcome"],
)
CALLBACK_RETRIES = Counter("holdfast_callback_retries", "Attempts of a callback after its first.")
CALLBACKS_SENT_AWAY = Counter(
    "holdfast_callbacks_sent_away",
    "Times that a callback waited without an attempt: its receiver did not answer, or had its share under way.",
)
LANES = Gauge(
    "holdfast_queue_lanes",
    "Functions with a lane of their own, as the worker that has most of them sees it.",
    ["queue_name"],
    multiprocess_mode="livemax",
)
MOVED = Counter("holdfast_queue_moved", "Calls moved from a queue's line into their function's lane.", ["queue_name"])
RUN_AGAIN = Counter("holdfast_function_attempts_again", "Attempts made again since the function's connection was lost.")

# --- every part ---
UNEXPECTED = Counter(
    "holdfast_unexpected_errors",
    "Errors that nobody expected and that cost one message or one step: each is a mistake of Holdfast's.",
    ["loop"],
)
LOG_DROPPED = Counter(
    "holdfast_log_lines_dropped",
    "Lines of the log that could not be written: nobody reads them, or there is no room for them.",
    ["part"],
)


class GatewayCounters:
    """The gateway's metrics of one function, their labels looked up once: a look-up costs more than the count."""

    __slots__ = ("_accepted", "_answers", "_inflight", "_name", "_started")

    def __init__(self, function_name: str) -> None:
        self._name = function_name
        self._accepted = ACCEPTED.labels(function_name)
        self._started = Tally(INVOCATIONS_STARTED.labels(function_name).inc)
        self._inflight = Tally(INVOCATIONS_INFLIGHT.labels(function_name).inc)
        self._answers: dict[int, tuple[Tally, Observations]] = {}

    def began(self) -> None:
        """A synchronous call has begun; `ended` must follow."""
        self._started.add()
        self._inflight.add()

    def ended(self, status: int, seconds: float) -> None:
        """A synchronous call was answered after `seconds`."""
        self._inflight.add(-1)
        self._count(status, seconds)

    def accepted(self, seconds: float) -> None:
        """An asynchronous call was stored, after `seconds`, and is answered 202."""
        self._accepted.inc()  # at once, 1.5 µs: a gateway that is killed has counted what it has answered
        self.known_again(seconds)

    def known_again(self, seconds: float) -> None:
        """An asynchronous call is answered 202 after `seconds`, with the id of one that was accepted before."""
        self._started.add()
        self._count(202, seconds)

    def _count(self, status: int, seconds: float) -> None:
        answer = self._answers.get(status)
        if answer is None:
            labels = (self._name, str(status))
            answer = self._answers[status] = (
                Tally(INVOCATIONS.labels(*labels).inc),
                Observations(INVOCATION_SECONDS.labels(*labels)),
            )
        answer[0].add()
        answer[1].observe(seconds)


class GatewayMetrics(dict[FunctionRef, GatewayCounters]):
    """The counters of each function that exists, made at first use. Never ask it for a name that was not looked up."""

    def __missing__(self, ref: FunctionRef) -> GatewayCounters:
        counters = self[ref] = GatewayCounters(str(ref))
        return counters


class WorkerCounters:
    """The worker's metrics of one function on one queue, their labels looked up once."""

    __slots__ = ("_answers", "_inflight", "_name", "_queue", "_taken")

    def __init__(self, queue: str, function_name: str) -> None:
        self._queue = queue
        self._name = function_name
        self._taken = Tally(WORKER_TAKEN.labels(queue, function_name).inc)
        self._inflight = Tally(WORKER_INFLIGHT.labels(queue, function_name).inc)
        self._answers: dict[int, Tally] = {}

    def began(self) -> None:
        """A call was taken from the queue; `ended` or `handed_back` must follow."""
        self._taken.add()
        self._inflight.add()

    def ended(self, status: int) -> None:
        """The function's run ended with this HTTP status."""
        self._inflight.add(-1)
        tally = self._answers.get(status)
        if tally is None:
            tally = self._answers[status] = Tally(WORKER_PROCESSED.labels(self._queue, self._name, str(status)).inc)
        tally.add()

    def handed_back(self) -> None:
        """The call did not end here: another worker will take it."""
        self._inflight.add(-1)


class WorkerMetrics(dict[FunctionRef, WorkerCounters]):
    """The counters of each function whose calls came through one queue, made at first use."""

    def __init__(self, queue: str) -> None:
        super().__init__()
        self._queue = queue
        self.waited = Observations(QUEUE_WAIT.labels(queue)).observe

    def __missing__(self, ref: FunctionRef) -> WorkerCounters:
        counters = self[ref] = WorkerCounters(self._queue, str(ref))
        return counters


class Ends(dict[tuple[FunctionRef, str], Counter]):
    """Counts the ends of calls by function and status, labels looked up once.

    HOT: written at once, 1.5 µs for each call, so that a worker that is killed has counted what it has ended.
    """

    def __missing__(self, end: tuple[FunctionRef, str]) -> Counter:
        counter = self[end] = ENDED.labels(str(end[0]), end[1])
        return counter

    def count(self, function: FunctionRef, status: str, owed: int, times: int = 1) -> None:
        """Count what `OWED.note` gave a slot for, and strike it off."""
        self[function, status].inc(times)
        OWED.strike(owed)


ENDS = Ends()


STDOUT, STDERR = 1, 2

log = structlog.get_logger()

# What steers a terminal. Line ends and tabs stay: a value with one of them is quoted, and tracebacks have them.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def _without_controls(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape what would steer the terminal of whoever reads the log: values may come from callers."""
    for key, value in event.items():
        if isinstance(value, str) and _CONTROL.search(value):
            event[key] = _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", value)
    return event


def configure_logging(settings: LogSettings, part: str) -> None:
    """Send every log line of this process to standard error as one event with fields, `part` among them.

    A line that cannot be written is dropped and counted: neither a reader that is gone nor one that hangs is felt.
    """
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _without_controls,
    ]
    renderer: structlog.typing.Processor
    if settings.encoding == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=os.isatty(STDERR) and not os.environ.get("NO_COLOR"), pad_event_to=0, pad_level=False
        )
    global _lines  # noqa: PLW0603 - a process has one log
    _lines = _writer(STDERR, part)
    lines = cast("TextIO", _lines)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=lines),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(part=part)
    # Libraries (nats-py, asyncio) log through the standard library: the same form, warnings and worse.
    handler = logging.StreamHandler(lines)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


_lines: LineWriter | None = None


def drain_log() -> None:
    """Wait a moment for the last lines: before a process ends that does not end by itself."""
    if _lines is not None:
        _lines.drain()


def _writer(descriptor: int, part: str) -> LineWriter:
    """Lines of this process to a descriptor; those that are lost are counted."""

    def on_back(missing: int) -> None:
        # The thread that writes has a context of its own.
        log.warning("lines of the log are missing before this one", lines=missing, part=part)

    # Looked up late: a supervisor learns only then where it counts.
    return LineWriter(descriptor, on_dropped=lambda: LOG_DROPPED.labels(part).inc(), on_back=on_back)


def say(text: str, part: str) -> None:
    """Print to standard output as the log is written: what cannot be printed is dropped and counted."""
    _writer(STDOUT, part).write(text + "\n")


def _log_unexpected(work: Work, error: BaseException, times: int, about: dict[str, object]) -> None:
    if times:
        log.error("unexpected error again, going on", loop=work.value, times=times, error=repr(error), **about)
    else:
        log.error("unexpected error, going on", loop=work.value, exc_info=error, **about)


unexpected.tell(Telling(lambda work: UNEXPECTED.labels(work.value).inc(), _log_unexpected))
