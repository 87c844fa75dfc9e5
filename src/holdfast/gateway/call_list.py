"""The calls there are, over HTTP: what the records and the queues hold, the newest first.

    GET    /system/calls[?function=&namespace=&queue=&status=&callback=&limit=&before=]

A call that has ended, or that runs for more than a second, or waits for another attempt, has a record; one that waits
for its first attempt stands in its queue, which shows it even if it has a record as well. Both are read from their
newest end, merged by the time of their last change, and nothing is kept here. What one request may read is bounded, so
a page can be shorter than its limit though there is more: `next`, the `before` of the following page, tells. Who may
ask was decided in system.py.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from holdfast.errors import BadRequest, QueueError
from holdfast.function import FunctionRef
from holdfast.gateway import call_document
from holdfast.gateway.query import whole_number
from holdfast.gateway.unstored import NOT_BEGUN
from holdfast.invocation import Invocation
from holdfast.queue import records as call_records
from holdfast.queue import wire
from holdfast.queue.api import ask
from holdfast.queue.backwards import Backwards, Budget
from holdfast.queue.connection import Connection
from holdfast.queue.depth import Consumer, consumers
from holdfast.queue.message import Undecodable, from_delivery
from holdfast.queue.record import SUBJECT_PREFIX, CallbackStatus, CallStatus, UnreadableRecord, decode
from holdfast.queue.records import MARKER_REASON, Records, Stored
from holdfast.queue.topology import STREAM_PREFIX, stream_of
from holdfast.queue.waiting import Standing, Waiting, queues

PREFIX = b"/system/calls"
DEFAULT_LIMIT = 100
MOST_LISTED = 1000
MOST_READ = 4000
# Messages for one page: 130 ms of CPU for the gateway, in stretches of 2 ms between which others have their turn.
MOST_READ_BYTES = 32 * 1024 * 1024
# Records hold results, and queues hold requests.
MOST_CURSOR_CHARACTERS = 12 * 1024
# Some 140 queues of the longest names; a request line may have max_target_bytes, 16 KiB.

_WORD = re.compile(r"[-a-zA-Z_0-9]+")
_PLACE = re.compile(r"([-A-Za-z0-9_]{1,80}):([0-9]{1,18})")
_IN_QUEUES = frozenset({CallStatus.WAITING, CallStatus.SCHEDULED, CallStatus.RUNNING})
_ONLY_IN_QUEUES = frozenset({CallStatus.WAITING, CallStatus.SCHEDULED})
_NO_RECORD = 2**63
# Above every sequence.

log = structlog.get_logger()


class Wanted(NamedTuple):
    """What a query selects."""

    status: CallStatus | None
    callback: CallbackStatus | None
    function: str
    namespace: str
    queue: str

    def takes(self, document: dict[str, Any]) -> bool:
        """Whether a call's document is selected."""
        return (
            (self.status is None or document["status"] == self.status)
            and (self.callback is None or (document["callback"] or {}).get("status") == self.callback)
            and (not self.function or document["function"] == self.function)
            and (not self.namespace or document["namespace"] == self.namespace)
            and (not self.queue or document["queue"] == self.queue)
        )


class Source(Protocol):
    """One stream that calls are read from."""

    stream: str
    messages: Backwards

    async def document(self, message: Standing) -> dict[str, Any] | None:
        """The document of a call; None for a message that is none, or whose call another source shows."""


class OfRecords:
    """Calls that have a record; those that have not begun are shown by their queues, which alone know that they are."""

    def __init__(self, messages: Backwards) -> None:
        self.stream = call_records.STREAM
        self.messages = messages

    async def document(self, message: Standing) -> dict[str, Any] | None:
        """The record; None where one was whose time is over, or for what is none."""
        if wire.header(message.headers, MARKER_REASON) is not None:
            return None
        try:
            record, _ = decode(message.payload)
        except UnreadableRecord as error:
            log.warning("record left out of the list", subject=message.subject, error=str(error))
            return None
        return None if record.status in NOT_BEGUN else call_document.of_record(record)


class OfQueue:
    """Calls of one queue that have no record, or one from before they began; the records show the others."""

    def __init__(
        self,
        messages: Backwards,
        queue: str,
        records: Records,
        consumers_: list[Consumer],
        records_from: int,
    ) -> None:
        """Records of this sequence and above are shown here: they are newer than what was read, or none are read."""
        self.stream = stream_of(queue)
        self.messages = messages
        self._queue = queue
        self._records = records
        self._consumers = consumers_
        self._records_from = records_from

    async def document(self, message: Standing) -> dict[str, Any] | None:
        """What the queue knows of the call."""
        try:
            invocation = from_delivery(message.subject.encode(), message.headers, message.payload)
        except Undecodable:
            return None  # a worker will say so
        stored = await self._records.read(invocation.call_id)
        if isinstance(stored, Stored):
            if stored.sequence < self._records_from and stored.record.status not in NOT_BEGUN:
                return None
            if stored.record.status not in call_document.IN_QUEUE:
                return call_document.of_record(stored.record)
            return call_document.of_both(stored.record, self._standing(message, invocation))
        return call_document.of_waiting(self._standing(message, invocation))

    def _standing(self, message: Standing, invocation: Invocation) -> Waiting:
        schedule = wire.header(message.headers, b"Nats-Schedule")
        at = None if schedule is None else schedule.decode("ascii").removeprefix("@at ")
        line = next((consumer for consumer in self._consumers if consumer.takes(message.subject)), None)
        return Waiting(invocation, self._queue, at, message.sequence, line)


class CallListRoutes:
    """The route, in `routes`."""

    def __init__(self, connection: Connection, records: Records, namespace: str) -> None:
        self._connection = connection
        self._records = records
        self._namespace = namespace
        self.routes = [Route("/system/calls", self.list_calls, methods=["GET"])]

    async def list_calls(self, request: Request) -> Response:
        """One page; `next` is the `before` of the following one, null on the last."""
        query = request.query_params
        wanted = _wanted(query.get, self._namespace)
        limit = whole_number(query.get("limit", str(DEFAULT_LIMIT)), "limit", MOST_LISTED)
        places = _places(query.get("before", ""))
        budget = Budget(MOST_READ, MOST_READ_BYTES)
        sources = await self._sources(wanted, places, budget)
        shown: list[dict[str, Any]] = []
        while len(shown) < limit and (source := await _newest(sources, budget)) is not None:
            document = await source.document(source.messages.take())
            if document is not None and wanted.takes(document):
                shown.append(document)
        unread = ",".join(f"{source.stream}:{source.messages.unread}" for source in sources if source.messages.unread)
        return JSONResponse({"calls": shown, "next": unread or None})

    async def _sources(self, wanted: Wanted, places: dict[str, int] | None, budget: Budget) -> list[Source]:
        """The streams that may hold what is wanted; on a later page those that had not been read to their end."""
        sources: list[Source] = []
        records_from = 0
        if wanted.status not in _ONLY_IN_QUEUES:
            newest = await self._place(call_records.STREAM, places)
            messages = Backwards(self._connection, call_records.STREAM, f"{SUBJECT_PREFIX}*", newest, budget)
            sources.append(OfRecords(messages))
            # What has been written since the first page began to be read is on no page.
            records_from = newest + 1 if places is None else _NO_RECORD
        if wanted.status is None or wanted.status in _IN_QUEUES:
            name = wanted.function.replace(".", "_") or "*"
            for queue in sorted(await queues(self._connection)):
                if wanted.queue not in {"", queue}:
                    continue
                stream = stream_of(queue)
                pattern = f"{queue}.*.{wanted.namespace or '*'}.{name}.>"
                messages = Backwards(self._connection, stream, pattern, await self._place(stream, places), budget)
                shared = await consumers(self._connection, queue)
                sources.append(OfQueue(messages, queue, self._records, shared, records_from))
        return sources

    async def _place(self, stream: str, places: dict[str, int] | None) -> int:
        if places is not None:
            return places.get(stream, 0)
        info = await ask(self._connection, f"STREAM.INFO.{stream}")
        newest: int = info["state"]["last_seq"]
        return newest


async def _newest(sources: list[Source], budget: Budget) -> Source | None:
    """The source whose head was stored last; None when all are read, or the budget does not tell which it is."""
    heads = [(source, await source.messages.head()) for source in sources]
    if budget.is_spent and any(head is None and source.messages.unread for source, head in heads):
        return None
    found = [(_stored_at(head), source) for source, head in heads if head is not None]
    return max(found, key=lambda one: one[0])[1] if found else None


def _stored_at(message: Standing) -> datetime:
    text = (wire.header(message.headers, b"Nats-Time-Stamp") or b"").decode("ascii", "replace")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _wanted(given: Any, default_namespace: str) -> Wanted:
    """Read the filters. Raises BadRequest."""
    text, name, namespace, queue = (given(key, "") for key in ("status", "function", "namespace", "queue"))
    if text and text not in set(CallStatus):
        raise BadRequest(400, f"status cannot be used: expected {', '.join(CallStatus)}, not {text[:40]!r}.")
    callback = given("callback", "")
    if callback and callback not in set(CallbackStatus):
        raise BadRequest(400, f"callback cannot be used: expected {', '.join(CallbackStatus)}, not {callback[:40]!r}.")
    if name:
        function = FunctionRef(name, namespace) if namespace else FunctionRef.parse(name, default_namespace)
        name, namespace = function
        # A word of a subject: a dot, a wildcard or a blank would select others.
        if _WORD.fullmatch(name.replace(".", "_")) is None:
            raise BadRequest(400, f"{name[:100]!r} is not the name of a function.")
    if namespace and _WORD.fullmatch(namespace) is None:
        raise BadRequest(400, f"{namespace[:100]!r} is not the name of a namespace.")
    if queue:
        try:
            stream_of(queue)
        except QueueError as error:
            raise BadRequest(400, f"{error}.") from error
    return Wanted(
        CallStatus(text) if text else None, CallbackStatus(callback) if callback else None, name, namespace, queue
    )


def _places(text: str) -> dict[str, int] | None:
    """Where the page before ended; None for the first page. Raises BadRequest."""
    if not text:
        return None
    found = [_PLACE.fullmatch(place) for place in text.split(",")] if len(text) <= MOST_CURSOR_CHARACTERS else [None]
    places = {match[1]: int(match[2]) for match in found if match is not None}
    if None in found or not all(place == call_records.STREAM or place.startswith(STREAM_PREFIX) for place in places):
        raise BadRequest(400, "before cannot be used: give the `next` of the page before as it was.")
    return places
