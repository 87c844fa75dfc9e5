"""What became of a call: its record, its result, its changes as they happen; and cancelling it.

    GET    /async-function/<call id>[?wait=30s]    the record; with `wait` once the call has ended, or so long
    GET    /async-function/<call id>/result        the function's own answer
    GET    /async-function/<call id>/events        the record at each change, as server-sent events, until the end
    DELETE /async-function/<call id>               cancel: the call, or what has still to be told of its end

The id of a chain, its `X-Call-Id`, is its first call's: that one is shown, with links to the later ones, and a DELETE
stops all of them. What an id stands for is lookup.py's.

Method and shape decide: a POST is always for a function, even one that is named like an id. Nothing here is kept: each
answer is read from NATS, so any gateway can give it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from holdfast import telemetry
from holdfast.duration import parse_duration
from holdfast.errors import BadRequest
from holdfast.gateway.call_document import path_of, record_of, rfc3339
from holdfast.gateway.cancelling import stop_running
from holdfast.gateway.explainer import Explainer
from holdfast.gateway.lookup import Lookup
from holdfast.gateway.refusals import HANDLERS
from holdfast.gateway.stored_answer import answer_headers
from holdfast.invocation import CallId, StoredBody, is_call_id
from holdfast.queue import waiting as queued
from holdfast.queue.bodies import Bodies, BodyGone
from holdfast.queue.chains import Chains
from holdfast.queue.connection import Connection
from holdfast.queue.owed_ends import end_owed
from holdfast.queue.record import CallbackStatus, CallRecord, CallStatus, subject_of_record
from holdfast.queue.records import Conflict, Records, Stored
from holdfast.queue.waiting import Waiting

METHODS = frozenset({b"GET", b"HEAD", b"DELETE"})
LONGEST_WAIT_S = 300.0
CHANGE_WAIT_S = 15.0
# A change that no message told of, such as a call that a worker has taken, is seen after this long.
MOST_LINKED = 100
# Later calls of a chain that are named; the rest are counted.
CANCELLED_TOGETHER = 16
# Calls of a chain.


class Calls:
    """Answers for calls; an ASGI application in `app`."""

    def __init__(
        self,
        connection: Connection,
        records: Records,
        *,
        bodies: Bodies,
        lookup: Lookup,
        chains: Chains,
        explainer: Explainer,
    ) -> None:
        self._connection = connection
        self._bodies = bodies
        self._explainer = explainer
        self._records = records
        self._lookup = lookup
        self._chains = chains
        self.app = Starlette(
            routes=[
                Route("/async-function/{call_id}", self.describe, methods=["GET"]),
                Route("/async-function/{call_id}", self.cancel, methods=["DELETE"]),
                Route("/async-function/{call_id}/result", self.result, methods=["GET"]),
                Route("/async-function/{call_id}/events", self.events, methods=["GET"]),
            ],
            exception_handlers=HANDLERS,
        )

    async def describe(self, request: Request) -> Response:
        """The record, at once or once the call has ended."""
        call_id = _call_id(request)
        wait_s = _wait(request.query_params.get("wait", ""))
        found = await self._lookup.find(call_id)
        if wait_s and not _has_ended(found):
            own_id = _record(found).call_id
            with self._changes(own_id) as changed:
                deadline = time.monotonic() + wait_s
                found = await self._lookup.own(own_id)
                while not _has_ended(found) and (left := deadline - time.monotonic()) > 0:
                    await _either(changed, min(left, CHANGE_WAIT_S))
                    found = await self._lookup.own(own_id)
        return JSONResponse(await self._document(call_id, found))

    async def _document(self, asked: CallId, found: Stored | Waiting) -> dict[str, Any]:
        """A call's document, and what else has the id that was asked for."""
        later, more = await self._chains.later(asked, MOST_LINKED)
        shown = await self._explainer.document(found)
        links = [path_of(call_id) for call_id in later if call_id != shown["id"]]
        return {**shown, "later": {"calls": links, "more": more} if links else None}

    async def result(self, request: Request) -> Response:
        """The function's answer: its status, its bytes, those of its headers that may pass. 409 while there is none."""
        call_id = _call_id(request)
        found = await self._lookup.find(call_id)
        if not isinstance(found, Stored) or found.record.result is None:
            status = _record(found).status
            raise BadRequest(409, f"call {call_id} has no result: it is {status}.")
        result = found.record.result
        response: Response
        if result.stored is not None:
            response = StreamingResponse(await self._stored(call_id, result.stored), status_code=result.status)
        elif result.size == len(found.body):
            response = Response(found.body, status_code=result.status)
        else:
            raise BadRequest(410, f"the result of {call_id} was too large to be kept: {result.size} bytes.")
        response.raw_headers = [(name.lower(), value) for name, value in answer_headers(found.record, result)]
        if result.status not in {204, 304}:
            response.raw_headers.append((b"content-length", b"%d" % result.size))
        return response

    async def _stored(self, call_id: CallId, body: StoredBody) -> AsyncIterator[bytes]:
        """The pieces of a large result. Raises BadRequest (410) while there is still a status to say it with."""
        pieces = self._bodies.read(body)
        try:
            first = await anext(pieces)
        except BodyGone as error:
            raise BadRequest(410, f"the result of {call_id} is no longer kept: {body.size} bytes.") from error

        async def all_pieces() -> AsyncIterator[bytes]:
            yield first
            async for piece in pieces:
                yield piece

        return all_pieces()

    async def events(self, request: Request) -> Response:
        """One event at once and one for each change; the stream ends with the call."""
        call_id = _call_id(request)
        # For 404 and 410, while there is still a status to say it with.
        own_id = _record(await self._lookup.find(call_id)).call_id

        async def stream() -> AsyncIterator[str]:
            sent: dict[str, Any] | None = None
            with self._changes(own_id) as changed:
                # Looked at again now that no change can be missed.
                while True:
                    try:
                        found = await self._lookup.own(own_id)
                    except BadRequest:
                        return  # its record has expired, or it was never stored after all
                    shown = await self._document(call_id, found)
                    yield ": still here\n\n" if shown == sent else _event(shown)
                    sent = shown
                    if _has_ended(found):
                        return
                    await _either(changed, CHANGE_WAIT_S)

        return StreamingResponse(
            stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Call-Id": call_id}
        )

    async def cancel(self, request: Request) -> Response:
        """202 once the call cannot succeed any more, or its callback is not tried again; 409 when both have ended.

        Of a chain, with its id, all calls that have not ended are stopped: 202 if there was any.
        """
        call_id = _call_id(request)
        refused = [await self._refused(self._cancel(call_id))]
        together: list[CallId] = []
        async for later in self._chains.each(call_id):
            together.append(later)
            if len(together) == CANCELLED_TOGETHER:
                refused += await self._cancel_together(together)
                together = []
        refused += await self._cancel_together(together)
        if None not in refused:
            # That one has ended says more than that of another one nothing is known.
            raise next((error for error in refused if error and error.status == 409), refused[0] or BadRequest(404, ""))
        return Response(status_code=202, headers={"X-Call-Id": call_id})

    async def _cancel_together(self, call_ids: list[CallId]) -> list[BadRequest | None]:
        return await asyncio.gather(*(self._refused(self._cancel(call_id)) for call_id in call_ids))

    @staticmethod
    async def _refused(cancelling: Awaitable[None]) -> BadRequest | None:
        """Why a call was not cancelled; None: it was."""
        try:
            await cancelling
        except BadRequest as error:
            return error
        return None

    async def _cancel(self, call_id: CallId) -> None:
        """Cancel the call that has the id as its own. Raises BadRequest, as `cancel` answers."""
        overtaken = False
        while True:
            found = await self._lookup.own(call_id)
            try:
                if isinstance(found, Stored) and found.record.owes_callback:
                    await self._cancel_callback(found)
                    break
                if isinstance(found, Stored) and found.record.status.is_end:
                    await self._finish_cancel(found.record)
                    if await self._cancel_of_0_1(found.record):
                        break
                    if overtaken and _was_cancelled(found.record):
                        break  # by the worker, at our word, or by whoever cancelled it in the same moment
                    raise BadRequest(409, f"call {call_id} has ended already: it is {_told(found.record)}.")
                if await self._cancelled(call_id, found):
                    break
            except Conflict:
                overtaken = True  # it moved on between our look and our word: look again

    async def _cancel_of_0_1(self, ended: CallRecord) -> bool:
        """Stop a call that version 0.1 accepted under the id of one that has ended; False: there is none."""
        standing = await queued.find(self._connection, ended.call_id)
        if standing is None or standing.invocation.message_id == ended.message_id:
            return False
        return await self._cancelled(ended.call_id, standing)

    async def _cancelled(self, call_id: CallId, found: Stored | Waiting) -> bool:
        """Stop the call wherever it is. False: it has just moved on or ended."""
        if isinstance(found, Stored):
            record, replaces = found.record, found.sequence
            standing = await queued.find(self._connection, call_id)
        else:
            record, standing = record_of(found), found
            other = await self._records.read(call_id)
            if isinstance(other, Stored) and other.record.message_id == record.message_id:
                return False  # it has one by now: look again
            replaces = 0 if other is None else other.sequence
        # A record that was written before its call was taken says that it waits.
        if record.status is CallStatus.RUNNING or (standing is not None and standing.handed_out):
            stopped = await stop_running(self._connection, call_id)
            if stopped is not None:
                return stopped
        record = record.cancelled(time.time_ns(), "cancelled before it was run")
        # First the record: a call that is in neither place, should NATS go between the two steps, would be lost.
        with end_owed(record) as owes:
            await self._records.put(record, b"", replaces)
            removed = await queued.remove(self._connection, record.queue, call_id)
            telemetry.ENDS.count(record.function, record.status, owes, max(1, removed.waiting))
        if removed.handed_out or not removed.messages:
            # A worker took it between our look and our word: it is stopped there.
            await stop_running(self._connection, call_id)
        if standing is not None and standing.invocation.body is not None:
            await self._bodies.discard(standing.invocation.body.name)
        return True

    async def _cancel_callback(self, found: Stored) -> None:
        """Have no further attempt made to tell of a call's end. Raises Conflict.

        The record decides: a worker looks at it before each attempt, and after one that it has parked or given up. So
        one that is under way meanwhile is the last, and nothing of it is left behind.
        """
        now = f"cancelled at {rfc3339(time.time_ns())}"
        last = found.record.callback_error
        record = found.record._replace(
            callback=CallbackStatus.CANCELLED, callback_error=now if last is None else f"{now}; before that, {last}"
        )
        await self._records.put(record, found.body, found.sequence)
        telemetry.CALLBACKS.labels(record.callback).inc()
        await queued.remove_callback(self._connection, record)

    async def _finish_cancel(self, record: CallRecord) -> None:
        """Do what a cancel left undone that got no further than the record."""
        if record.status is CallStatus.CANCELLED:
            await queued.remove(self._connection, record.queue, record.call_id)
        elif record.callback is CallbackStatus.CANCELLED:
            await queued.remove_callback(self._connection, record)

    @contextmanager
    def _changes(self, call_id: CallId) -> Iterator[asyncio.Event]:
        """An event that is set whenever a record of the call is written: writing one publishes its subject."""
        changed = asyncio.Event()
        sid = self._connection.subscribe(subject_of_record(call_id), lambda _message: changed.set())
        try:
            yield changed
        finally:
            self._connection.unsubscribe(sid)


def _call_id(request: Request) -> CallId:
    text: str = request.path_params["call_id"]
    if not is_call_id(text.encode()):
        raise BadRequest(404, f"{text[:100]!r} is not a call id.")
    return CallId(text)


def _wait(text: str) -> float:
    try:
        return min(parse_duration(text), LONGEST_WAIT_S) if text else 0.0
    except ValueError as error:
        raise BadRequest(400, f"wait cannot be used: {error}.") from error


def _record(found: Stored | Waiting) -> CallRecord:
    return found.record if isinstance(found, Stored) else record_of(found)


def _was_cancelled(record: CallRecord) -> bool:
    return record.status is CallStatus.CANCELLED or record.callback is CallbackStatus.CANCELLED


def _told(record: CallRecord) -> str:
    """How a call ended, and what became of its callback."""
    if record.callback is CallbackStatus.NONE or record.status is CallStatus.CANCELLED:
        return record.status
    return f"{record.status}, and its callback is {record.callback}"


def _has_ended(found: Stored | Waiting) -> bool:
    return isinstance(found, Stored) and found.record.status.is_end


def _event(document: dict[str, Any]) -> str:
    return f"event: {document['status']}\ndata: {json.dumps(document)}\n\n"


async def _either(changed: asyncio.Event, seconds: float) -> None:
    """Wait for a change, or so long."""
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        pass
    changed.clear()
