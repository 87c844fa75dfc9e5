"""Accept an asynchronous call: check it, store it, answer 202.

The 202 is written by JetStream's confirmation and by nothing else. Everything before it may refuse; after it the call
is the queue's. What runs the call is the worker's affair.

HOT: a call to a known function passes here without a task or a future: the request's head is checked and written
anew, the lane collects the body, the publisher sends it, its confirmation writes the answer. About 12 µs of the
gateway's share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from holdfast import owed, telemetry
from holdfast.callback_guard import CallbackGuard
from holdfast.directory import Directory, ProviderUnavailable
from holdfast.errors import BadRequest, QueueError, QueueRefused
from holdfast.function import FunctionRef
from holdfast.gateway import answers
from holdfast.gateway.call_options import NAMES as OPTION_NAMES
from holdfast.gateway.call_options import TWICE, CallOptions, check_callback_url, read_depth
from holdfast.gateway.claims import Claims, Owned, likely_id
from holdfast.gateway.idempotency import Idempotency
from holdfast.gateway.lane_board import LaneBoard
from holdfast.gateway.large_body import LargeBodies
from holdfast.gateway.placement import Placement
from holdfast.gateway.room import FULL_FOR_S, QueueFull, Room
from holdfast.gateway.route import Route
from holdfast.headers import DEPTH, INSTANCE, NOT_FORWARDED, named_by_connection
from holdfast.http1.server import Exchange
from holdfast.invocation import CALL_ID_RULE, CallId, Invocation, StoredBody, is_call_id, new_call_id
from holdfast.owed import NO_SLOT, OWED
from holdfast.queue.group_commit import GroupCommit
from holdfast.queue.message import to_publish, to_publish_later
from holdfast.queue.publisher import Done, Publisher
from holdfast.unexpected import Work, alone

STREAM_FULL = 10077
# JetStream's err_code for a stream at its limit whose policy is to discard new messages.
NO_STREAM = 503
# The code of a publish that no stream took.

_DEPTH = DEPTH.lower()
# Read, not copied: they are checked, kept or extended below. The rest of the names are dropped on every hop.
_OURS = frozenset({b"x-call-id", b"x-callback-url", b"x-start-time", b"x-forwarded-for", b"x-forwarded-host", _DEPTH})
_TOUCHED = NOT_FORWARDED | _OURS | OPTION_NAMES | {INSTANCE.lower()}

_WHENCE = b"X-Start-Time: %d\r\nX-Forwarded-For: %b%b\r\nX-Forwarded-Host: %b\r\n"
_WITH_ID = b"X-Call-Id: %b\r\n" + _WHENCE

log = structlog.get_logger()


class Accepting:
    """One call between its head and its 202."""

    __slots__ = (
        "_acceptor",
        "_call_id",
        "_callback_url",
        "_chain_id",
        "_depth",
        "_exchange",
        "_head",
        "_known",
        "_message_id",
        "_options",
        "_owes",
        "_queue",
        "_ref",
        "_start_ns",
    )

    def __init__(self, acceptor: Acceptor, ref: FunctionRef, queue: str) -> None:
        self._acceptor = acceptor
        self._ref = ref
        self._queue = queue
        self._depth = 0
        self._options: CallOptions | None = None
        self._known = False
        self._owes = NO_SLOT

    def read_head(self, exchange: Exchange, target: bytes) -> None:
        """Check the head and write the one that the function will see. Raises BadRequest."""
        call_id = callback_url = host = forwarded_for = b""
        asked: dict[bytes, bytes] = {}
        lines = [b"POST ", target, b" HTTP/1.1\r\n"]
        named = named_by_connection(exchange.headers)
        not_copied = _TOUCHED | named if named else _TOUCHED
        for name, value in exchange.headers:
            lower = name.lower()
            if lower not in not_copied:
                lines += (name, b": ", value, b"\r\n")
            elif lower == b"host":
                host = value
            elif lower == b"x-call-id":
                call_id = _once(name, call_id, value)
            elif lower == b"x-callback-url":
                callback_url = _once(name, callback_url, value)
                lines += (name, b": ", value, b"\r\n")
            elif lower == b"x-forwarded-for":
                forwarded_for += value + b", "
            elif lower == _DEPTH:
                lines.append(self._one_deeper(value))
            elif lower in OPTION_NAMES:
                asked[lower] = _once(name, asked.get(lower, b""), value)
                lines += (name, b": ", value, b"\r\n")
        # A caller's own id may come twice, as when a callback starts the next function of a chain: whether this call
        # has it is found out when it is stored.
        self._chain_id = _read_call_id(call_id) if call_id else None
        self._callback_url = check_callback_url(callback_url, self._acceptor.guard) if callback_url else None
        self._call_id = new_call_id()
        self._message_id: str = self._call_id
        self._start_ns = answers.now_ns()
        if asked:
            self._options = CallOptions.read(asked, self._acceptor.guard)
        whence = (self._start_ns, forwarded_for, exchange.client_host.encode(), host)
        if asked and self._keyed:
            lines.append(_WHENCE % whence)  # its id is found out when it is stored
            if call_id:
                raise BadRequest(400, "Idempotency-Key gives the call its id: leave X-Call-Id out.")
        else:
            lines.append(_WITH_ID % (call_id or self._call_id.encode(), *whence))
        self._head = b"".join(lines)

    def _one_deeper(self, value: bytes) -> bytes:
        """Read X-Holdfast-Depth; gives the function's line, which calls that it makes in turn can count on."""
        if self._depth:
            raise BadRequest(400, TWICE % DEPTH.decode())
        self._depth = read_depth(value, self._acceptor.max_depth)
        return b"%b: %d\r\n" % (DEPTH, self._depth)

    @property
    def _keyed(self) -> bool:
        return self._options is not None and self._options.idempotency_key is not None

    @property
    def body_id(self) -> CallId:
        """The id that the call will most likely have, for a large body to be stored under, once its head is read."""
        if self._options is not None and self._options.idempotency_key is not None:
            return self._acceptor.idempotency.likely_id(self._ref, self._options.idempotency_key) or self._call_id
        return likely_id(self._call_id, self._chain_id)

    def body_complete(self, exchange: Exchange, body: bytes, stored: StoredBody | None = None) -> None:
        """Hand the call to the queue; the answer is written when it is stored. A large body is `stored` already."""
        size = len(body) if stored is None else stored.size
        request = b"%bContent-Length: %d\r\n\r\n%b" % (self._head, size, body)
        # By position, up to `provider`: names cost a third more.
        invocation = Invocation(
            self._call_id,
            self._message_id,
            self._ref,
            self._start_ns,
            self._callback_url,
            request,
            (),
            None,
            None,
            None,
            self._depth,
            stored,
            self._acceptor.functions.provider_id,
        )
        self._exchange = exchange
        if self._options is not None or self._chain_id is not None:
            self._store_as_asked(invocation, self._options or CallOptions())
            return
        self._owes = OWED.note(owed.stored(self._call_id, self._message_id))
        acceptor = self._acceptor
        place = acceptor.lanes.place(self._queue, self._ref)
        acceptor.commit.publish(*to_publish(self._queue, invocation, place), self.confirmed)

    def _store_as_asked(self, invocation: Invocation, options: CallOptions) -> None:
        """Not hot: a call with options or an id of its caller's."""
        invocation = options.apply(invocation)
        at = datetime.now(UTC) + timedelta(seconds=options.delay_s) if options.delay_s else None
        if options.idempotency_key is not None:
            key = options.idempotency_key
            self._begin(lambda: self._store_once(invocation, key, at), "store a call once")
        elif self._chain_id is not None:
            chained = invocation._replace(chain_id=self._chain_id)
            self._begin(lambda: self._store_owned(chained, at, options.delay_s), "store a call of a chain")
        else:
            self._publish(invocation, at, self.confirmed)

    def _begin(self, do: Callable[[], Awaitable[None]], name: str) -> None:
        """Do something that takes a while, and answer 500 should it fail in a way that nobody thought of."""
        doing = alone(Work.ACCEPTING, do, lambda _: answers.failed(self._exchange))
        self._acceptor.tasks.create_task(doing, name=name)

    def _publish(self, invocation: Invocation, at: datetime | None, done: Done) -> None:
        self._owes = OWED.note(owed.stored(invocation.call_id, invocation.message_id))
        acceptor = self._acceptor
        if at is not None:
            acceptor.publisher.publish(*to_publish_later(self._queue, invocation, at), done)
        else:
            place = acceptor.lanes.place(self._queue, self._ref)
            acceptor.commit.publish(*to_publish(self._queue, invocation, place), done)

    async def _store_owned(self, invocation: Invocation, at: datetime | None, delay_s: float) -> None:
        """Store a call that came with an id, which it gets or another has."""
        try:
            owned = await self._acceptor.claims.own(invocation, self._queue, at, delay_s)
        except QueueError as error:
            self.confirmed(error, 0, False)
            return
        self._is(owned.invocation)
        self._publish(owned.invocation, at, partial(self._owned_confirmed, owned))

    def _is(self, invocation: Invocation) -> None:
        """Which ids the call has, now that it is known, before it is stored."""
        self._call_id, self._message_id = invocation.call_id, invocation.message_id
        self._chain_id = invocation.chain_id

    def _owned_confirmed(self, owned: Owned, error: Exception | None, sequence: int, duplicate: bool) -> None:  # noqa: FBT001 - the publisher's
        if isinstance(error, QueueRefused):
            self._begin(lambda: self._refuse_owned(owned, error), "give an id back")
        else:
            self.confirmed(error, sequence, duplicate)

    async def _refuse_owned(self, owned: Owned, error: QueueRefused) -> None:
        """Before the caller is told, so that its next try finds the id as this one did."""
        await self._acceptor.claims.give_back(owned)
        self.confirmed(error, 0, False)

    async def _store_once(self, invocation: Invocation, key: str, at: datetime | None) -> None:
        try:
            once = await self._acceptor.idempotency.store(invocation, key, self._queue, at)
            self._call_id, self._start_ns, self._known, self._owes = once
        except BadRequest as error:
            answers.refuse(self._exchange, error.status, str(error))
        except QueueError as error:
            self.confirmed(error, 0, False)
        else:
            self.confirmed(None, 0, False)

    def not_stored(self, exchange: Exchange, error: QueueError) -> None:
        """The body could not be stored, so there is no call."""
        self._exchange = exchange
        self.confirmed(error, 0, False)

    def confirmed(self, error: Exception | None, _sequence: int, _duplicate: bool) -> None:  # noqa: FBT001 - the publisher's
        """JetStream has stored the call, or not: answer."""
        exchange = self._exchange
        if error is None:
            exchange.respond(202, self._accepted_headers())
            self._count()
            return
        OWED.settle(self._owes, error)
        if isinstance(error, QueueRefused) and error.code == NO_STREAM and not error.err_code:
            self._acceptor.placement.gone(self._queue)
        _refuse_unstored(exchange, self._ref, error)

    def _accepted_headers(self) -> bytes:
        call_id = self._call_id.encode()
        common_id = call_id if self._chain_id is None else self._chain_id.encode()
        return answers.accepted_headers(common_id, self._start_ns, call_id, replayed=self._known)

    def _count(self) -> None:
        """Count a call that is stored."""
        counters = self._acceptor.metrics[self._ref]
        seconds = (answers.now_ns() - self._start_ns) / 1e9
        if self._known:
            counters.known_again(seconds)
        else:
            counters.accepted(seconds)
            OWED.strike(self._owes)


Kind = Callable[["Acceptor", FunctionRef, str], Accepting]
"""Makes the one that leads a call of a function into a queue."""


class Acceptor:
    """Accepts the calls of one gateway."""

    def __init__(
        self,
        *,
        placement: Placement,
        room: Room,
        publisher: Publisher,
        group_commit: GroupCommit | None,
        lanes: LaneBoard,
        functions: Directory,
        metrics: telemetry.GatewayMetrics,
        idempotency: Idempotency,
        claims: Claims,
        guard: CallbackGuard,
        max_depth: int,
        large: LargeBodies,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.placement = placement
        self.publisher = publisher
        self.commit: Publisher | GroupCommit = group_commit or publisher
        """Where calls go that can run at once."""
        self.lanes = lanes
        self.metrics = metrics
        self.idempotency = idempotency
        self.claims = claims
        self.guard = guard
        self.max_depth = max_depth
        self.tasks = tasks
        self._room = room
        self.functions = functions
        self.large = large
        self._inline_bytes = large.inline_bytes

    def accept(
        self,
        exchange: Exchange,
        ref: FunctionRef,
        route: Route,
        kind: Kind = Accepting,
    ) -> None:
        """Begin to accept; answers at once or later. `kind` makes the one that leads the call and answers it."""
        if exchange.method != b"POST":
            answers.refuse(
                exchange,
                405,
                "an asynchronous call is a POST: the function is run later, so there is nothing to read yet.",
                b"Allow: POST\r\n",
            )
            return
        entry = self.functions.recent(ref)
        queue = None if entry is None else self.placement.known(entry)
        if queue is not None:
            self._read(exchange, ref, queue, route, kind)
        else:
            finding = alone(
                Work.ACCEPTING,
                lambda: self._read_when_found(exchange, ref, route, kind),
                lambda _: answers.failed(exchange),
            )
            self.tasks.create_task(finding, name=f"find {ref}")

    def _read(self, exchange: Exchange, ref: FunctionRef, queue: str, route: Route, kind: Kind) -> None:
        accepting = kind(self, ref, queue)
        try:
            accepting.read_head(exchange, route.target)
        except BadRequest as error:
            answers.refuse(exchange, error.status, str(error))
            return
        if not self._room.take(queue):
            _refuse_unstored(exchange, ref, QueueFull(queue))
        elif exchange.chunked or (exchange.content_length or 0) > self._inline_bytes:
            self.large.take(exchange, accepting)
        else:
            exchange.collect(self._inline_bytes, accepting.body_complete)

    async def _read_when_found(self, exchange: Exchange, ref: FunctionRef, route: Route, kind: Kind) -> None:
        try:
            entry = await self.functions.find(ref)
        except ProviderUnavailable as error:
            log.warning("call not accepted", function=str(ref), status=503, error=str(error))
            answers.refuse(
                exchange,
                503,
                f"cannot tell whether {ref} exists, the provider does not answer: try again shortly.",
                b"Retry-After: 1\r\n",
            )
            return
        if entry is None:
            answers.refuse(exchange, 404, answers.unknown_function(str(ref)))
            return
        try:
            queue = await self.placement.find(entry)
        except BadRequest as error:
            log.warning("call not accepted", function=str(ref), status=error.status, error=str(error))
            answers.refuse(exchange, error.status, str(error))
        except QueueError as error:
            _refuse_unstored(exchange, ref, error)
        else:
            self._read(exchange, ref, queue, route, kind)


def _refuse_unstored(exchange: Exchange, ref: FunctionRef, error: Exception) -> None:
    status, text, retry_after_s = _why_not_stored(error)
    log.warning("call not accepted", function=str(ref), status=status, error=str(error))
    answers.refuse(exchange, status, text, b"Retry-After: %d\r\n" % retry_after_s if retry_after_s else b"")


def _once(name: bytes, before: bytes, value: bytes) -> bytes:
    """A value that may be there once: of two, the gateway and whoever stands before it may each believe another."""
    if before:
        raise BadRequest(400, TWICE % name.decode())
    return value


def _read_call_id(value: bytes) -> CallId:
    """A caller's own id. Raises BadRequest."""
    if not is_call_id(value):
        raise BadRequest(400, f"X-Call-Id cannot be used: expected {CALL_ID_RULE}.")
    return CallId(value.decode("ascii"))


def _why_not_stored(error: Exception) -> tuple[int, str, int]:
    """Status, text and Retry-After seconds for a call that JetStream did not confirm."""
    if isinstance(error, QueueFull):
        return 503, f"{error}: the call was not accepted, try again later.", FULL_FOR_S
    if isinstance(error, QueueRefused) and error.err_code == STREAM_FULL:
        return 503, "the queue is full: the call was not accepted, try again later.", FULL_FOR_S
    if isinstance(error, QueueRefused) and not error.perhaps_stored:
        return 503, f"the queue refused the call, it was not accepted: {error.description}.", 5
    return 503, "the queue cannot be reached: the call is not confirmed as stored, so send it again.", 1
