"""`Prefer: respond-async, wait=5` on a synchronous call (RFC 7240): stored like an asynchronous one, answered in time.

    without `wait`, or 0    202 once the call is stored
    the call ends in time   the function's own answer
    it does not             202, and the work goes on

Whoever waits is told of the call's end by the write of its record: writing one publishes its subject, with the record
and the answer in it. So waiting costs a subscription and a timer, and NATS is asked nothing. Storing is accept.py's;
a call that comes without `Prefer` never gets here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import structlog

from holdfast.errors import QueueError
from holdfast.function import FunctionRef
from holdfast.gateway import answers
from holdfast.gateway.accept import Accepting, Acceptor
from holdfast.gateway.route import Route
from holdfast.headers import CALL_ID, NOT_FORWARDED, RESERVED_IN_ANSWER, SERVED_BY, START_TIME, forwardable
from holdfast.http1.message import header_lines, is_dated
from holdfast.http1.server import Exchange
from holdfast.invocation import Invocation, StoredBody
from holdfast.queue.bodies import Bodies
from holdfast.queue.connection import Connection
from holdfast.queue.record import CallRecord, Result, UnreadableRecord, decode, subject_of_record
from holdfast.queue.records import Records, Stored
from holdfast.queue.wire import Msg
from holdfast.unexpected import Work, alone, guarded

APPLIED = b"Preference-Applied"
_OURS = NOT_FORWARDED | RESERVED_IN_ANSWER | {APPLIED.lower(), answers.REPLAYED.lower()}
# A list of preferences; a comma in a quoted string does not end one, and one without its end is the last. Possessive: a
# caller who leaves quotes open must not have them looked for again from each place.
_ITEM = re.compile(rb'(?:[^,"]++|"(?:[^"\\]|\\.?)*+(?:"|\Z))++')
_MOST_DIGITS = 9
# Thirty years in seconds. A number with more digits is as good as endless, and is not worth reading.

log = structlog.get_logger()


class Preference(NamedTuple):
    """That a caller would rather have 202 than wait longer than `wait_s`."""

    wait_s: int

    def applied(self) -> bytes:
        """The value of `Preference-Applied`: what was made of the wish."""
        return b"respond-async, wait=%d" % self.wait_s if self.wait_s else b"respond-async"


def read_preference(headers: Iterable[tuple[bytes, bytes]], longest_wait_s: float) -> Preference | None:
    """What `Prefer` asks for; None unless it asks for `respond-async`.

    The first mention of a preference counts (RFC 7240, section 2), whatever else stands there is ignored; so is a
    `wait` that is no number of seconds. One that is too long is cut.
    """
    asked: dict[bytes, bytes] = {}
    for name, value in headers:
        if name.lower() == b"prefer":
            for item in _ITEM.findall(value):
                preference, _, word = item.partition(b";")[0].partition(b"=")
                asked.setdefault(preference.strip().lower(), word.strip().strip(b'"'))
    if b"respond-async" not in asked:
        return None
    digits = asked.get(b"wait", b"")
    if not digits.isdigit():
        return Preference(0)
    wait_s = int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS
    return Preference(min(wait_s, int(longest_wait_s)))


class Prefer:
    """The calls of one gateway that came with the preference."""

    def __init__(
        self, acceptor: Acceptor, connection: Connection, records: Records, bodies: Bodies, longest_wait_s: float
    ) -> None:
        self.connection = connection
        self.records = records
        self.bodies = bodies
        self.waiting: set[Preferring] = set()
        """Those whose callers are waiting now."""
        self._acceptor = acceptor
        self._longest_wait_s = longest_wait_s

    def begin(self, exchange: Exchange, ref: FunctionRef, route: Route) -> bool:
        """Take the call when it can be answered asynchronously; False: it is a synchronous one.

        Only a POST can be: the function of a stored call sees that method.
        """
        preference = read_preference(exchange.headers, self._longest_wait_s)
        if preference is None or exchange.method != b"POST":
            return False
        self._acceptor.accept(exchange, ref, route, partial(Preferring, self, preference))
        return True

    def stop_waiting(self) -> None:
        """The gateway stops: who still waits is told where to ask."""
        for preferring in list(self.waiting):
            preferring.answer_later()


class Preferring(Accepting):
    """One call whose caller waits a while for its answer."""

    __slots__ = ("_deadline", "_end", "_gone", "_loop", "_preference", "_shared", "_sid", "_stored", "_timer")

    def __init__(
        self, shared: Prefer, preference: Preference, acceptor: Acceptor, ref: FunctionRef, queue: str
    ) -> None:
        super().__init__(acceptor, ref, queue)
        self._shared = shared
        self._preference = preference
        self._loop = asyncio.get_running_loop()
        self._sid: bytes | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stored = False
        self._gone = False
        self._end: tuple[CallRecord, bytes] | None = None

    def body_complete(self, exchange: Exchange, body: bytes, stored: StoredBody | None = None) -> None:
        """Listen for the call's end, then hand it to the queue: it may have ended before its storing is confirmed."""
        if self._preference.wait_s:
            self._deadline = self._loop.time() + self._preference.wait_s
            exchange.on_gone(self._caller_gone)
            if self._chain_id is None and not self._keyed:
                self._listen()
        super().body_complete(exchange, body, stored)

    def _is(self, invocation: Invocation) -> None:
        super()._is(invocation)
        self._listen()

    def _listen(self) -> None:
        """Hear of the call's end from now on, unless nobody waits for it."""
        if self._preference.wait_s and not self._gone:
            self._sid = self._shared.connection.subscribe(subject_of_record(self._call_id), self._record_written)

    def _caller_gone(self) -> None:
        self._gone = True
        self._stop()

    def confirmed(self, error: Exception | None, sequence: int, duplicate: bool) -> None:  # noqa: FBT001 - the publisher's
        """JetStream has stored the call, or not."""
        if error is not None:
            self._stop()
            super().confirmed(error, sequence, duplicate)
            return
        self._stored = True
        self._exchange.let_go()
        self._count()
        if self._keyed:
            self._listen()
        if self._sid is None:
            # Nobody waits: that was the wish, or the caller has left.
            self.answer_later()
        elif self._end is not None:
            self._answer(*self._end)
        else:
            self._timer = self._loop.call_at(self._deadline, guarded(Work.ANSWERING)(self.answer_later))
            self._shared.waiting.add(self)
            if self._keyed:
                # The call may be an older one that has ended long ago.
                looking = alone(Work.ANSWERING, self._look, lambda _: None)
                self._acceptor.tasks.create_task(looking, name=f"look at {self._call_id}")

    def _record_written(self, message: Msg) -> None:
        """A record of this id was written; it may be of another call that version 0.1 accepted under the id."""
        try:
            record, body = decode(message.payload)
        except UnreadableRecord as error:
            log.error("record cannot be read", call_id=self._call_id, error=str(error))  # noqa: TRY400 - not ours
            return
        # The key made the message id of a call that has one, and the call id: there is no other under it.
        if record.status.is_end and (self._keyed or record.message_id == self._message_id):
            self._ended(record, body)

    async def _look(self) -> None:
        try:
            found = await self._shared.records.read(self._call_id, surely=True)
        except QueueError as error:
            log.warning("record cannot be read", call_id=self._call_id, error=str(error))
            return
        if isinstance(found, Stored) and found.record.status.is_end and self._sid is not None:
            self._ended(found.record, found.body)

    def _ended(self, record: CallRecord, body: bytes) -> None:
        if self._stored:
            self._answer(record, body)
        else:
            self._end = (record, body)

    def _answer(self, record: CallRecord, body: bytes) -> None:
        """The function's own answer; 202 when there is none, as after a cancel, or it was too large to be kept."""
        result = record.result
        if result is not None and result.stored is not None:
            self._stop()
            answering = alone(
                Work.ANSWERING,
                partial(self._answer_stored, result, result.stored),
                lambda _: answers.failed(self._exchange),
            )
            self._acceptor.tasks.create_task(answering, name=f"send the result of {self._call_id}")
        elif result is not None and result.size == len(body):
            self._stop()
            self._start(result)
            self._exchange.write(body)
            self._exchange.end()
        else:
            self.answer_later()

    def _start(self, result: Result) -> None:
        headers = [
            *forwardable(result.headers, _OURS),
            (CALL_ID, (self._chain_id or self._call_id).encode()),
            (START_TIME, b"%d" % self._start_ns),
            (SERVED_BY, answers.SERVED_BY),
            (APPLIED, self._preference.applied()),
        ]
        if self._known:
            headers.append((answers.REPLAYED, b"true"))
        lines = header_lines(headers)
        self._exchange.start(result.status, lines, result.size, dated=is_dated(lines))

    async def _answer_stored(self, result: Result, body: StoredBody) -> None:
        """Send a result that is too large for its record, piece by piece as the caller takes it."""
        exchange = self._exchange
        flowing = asyncio.Event()
        flowing.set()
        exchange.on_flow(flowing.clear, flowing.set)
        exchange.on_gone(flowing.set)
        begun = False
        try:
            async for piece in self._shared.bodies.read(body):
                if not begun:
                    self._start(result)
                    begun = True
                if exchange.over:
                    return
                exchange.write(piece)
                # Ends when the caller reads, or when the lane gives it up.
                await flowing.wait()
        except QueueError as error:
            log.warning("result cannot be sent", call_id=self._call_id, error=str(error), answer_begun=begun)
            if begun:
                exchange.abort()
            else:
                self.answer_later()
        else:
            exchange.end()

    def answer_later(self) -> None:
        """202: the record tells the rest."""
        self._stop()
        self._exchange.respond(202, b"%b%b: %b\r\n" % (self._accepted_headers(), APPLIED, self._preference.applied()))

    def _stop(self) -> None:
        """Listen no more: answered, or nobody waits. The call goes on."""
        self._shared.waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sid is not None:
            self._shared.connection.unsubscribe(self._sid)
            self._sid = None
