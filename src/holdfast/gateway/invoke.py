"""Call a function synchronously: the request is relayed to one of its replicas, the answer relayed back.

Bodies stream both ways. A function without a ready replica is waited for; one that cannot be reached is looked for once
more, because its replica may just have been replaced.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from holdfast import telemetry
from holdfast.directory import Directory, Entry, ProviderUnavailable
from holdfast.duration import parse_duration
from holdfast.errors import BadRequest, ConnectFailed, PeerError, WrongPeer
from holdfast.function import FunctionRef
from holdfast.gateway import answers
from holdfast.gateway.call_options import TWICE
from holdfast.gateway.route import Route
from holdfast.headers import CALL_ID, FORWARDED_FOR, FORWARDED_HOST, INSTANCE, RESERVED_IN_ANSWER, SERVED_BY, START_TIME
from holdfast.http1.client import ClientPool, Origin
from holdfast.http1.exchange import STREAM
from holdfast.http1.relay import Dropped, relay
from holdfast.http1.server import Exchange
from holdfast.invocation import CALL_ID_RULE, is_call_id, new_call_id
from holdfast.unexpected import Work, alone

_DROPPED = Dropped.besides((CALL_ID, START_TIME, FORWARDED_FOR, FORWARDED_HOST, INSTANCE), RESERVED_IN_ANSWER)
_SERVED_BY = b"%b: %b\r\n" % (SERVED_BY, answers.SERVED_BY)

log = structlog.get_logger()


class Invoking:
    """One synchronous call, from its head to the last byte of its answer."""

    __slots__ = (
        "_began",
        "_call_id",
        "_counters",
        "_exchange",
        "_invoker",
        "_looked_again",
        "_ref",
        "_route",
        "_start_ns",
        "_timeout_s",
    )

    def __init__(self, invoker: Invoker, exchange: Exchange, ref: FunctionRef, route: Route) -> None:
        """Check the head. Raises BadRequest."""
        call_id = exchange.header(b"x-call-id")
        if call_id is not None and not is_call_id(call_id):
            raise BadRequest(400, f"X-Call-Id cannot be used: expected {CALL_ID_RULE}.")
        timeout = exchange.header(b"x-timeout")
        if call_id is not None or timeout is not None:
            _refuse_doubles(exchange)
        self._invoker = invoker
        self._exchange = exchange
        self._ref = ref
        self._route = route
        self._call_id = call_id or new_call_id().encode()
        self._timeout_s = min(invoker.timeout_s, _read_timeout(timeout)) if timeout else invoker.timeout_s
        self._start_ns = answers.now_ns()
        self._began = time.monotonic()
        self._looked_again = False
        self._counters: telemetry.GatewayCounters | None = None

    def begin(self, entry: Entry | None) -> None:
        """Relay to a ready replica, or find one first."""
        origin = entry.pick() if entry is not None else None
        if entry is None or origin is None:
            waiting = alone(Work.ANSWERING, self._wait_for_replica, lambda _: self._failed())
            self._invoker.tasks.create_task(waiting, name=f"wait for {self._ref}")
            return
        self._count_begin()
        exchange = self._exchange
        said = b"X-Call-Id: %b\r\nX-Start-Time: %d\r\n" % (self._call_id, self._start_ns)
        forwarded = b"X-Forwarded-For: %b\r\nX-Forwarded-Host: %b\r\n" % (
            self._forwarded_for(),
            exchange.header(b"host") or b"",
        )

        def unreachable(error: PeerError) -> bool:
            return self._look_again(origin, error)

        relay(
            exchange,
            self._invoker.pool,
            origin,
            target=entry.prefix + self._route.target,
            dropped=_DROPPED,
            request_lines=said + forwarded,
            answer_lines=said + _SERVED_BY,
            timeout_s=self._timeout_s - (time.monotonic() - self._began),
            done=self._done,
            unreachable=unreachable,
        )

    def _forwarded_for(self) -> bytes:
        exchange = self._exchange
        client = exchange.client_host.encode()
        if not exchange.header(b"x-forwarded-for"):
            return client
        before = [value for name, value in exchange.headers if name.lower() == b"x-forwarded-for"]
        return b", ".join([*before, client])

    def _look_again(self, origin: Origin, error: PeerError) -> bool:
        """Nothing of the function has seen the request: look for another replica, once."""
        self._invoker.functions.lost(self._ref, origin, error)
        if self._looked_again or not isinstance(error, ConnectFailed | WrongPeer):
            return False
        if isinstance(error, WrongPeer) and self._exchange.mode == STREAM:
            return False  # its body has gone to the wrong one
        self._looked_again = True
        self.begin(None)
        return True

    async def _wait_for_replica(self) -> None:
        left = self._timeout_s - (time.monotonic() - self._began)
        try:
            entry = await self._invoker.functions.ready(self._ref, left)
        except ProviderUnavailable as error:
            log.warning("function cannot be looked up", function=str(self._ref), error=str(error))
            self._refuse(503, f"cannot reach {self._ref}, the provider does not answer: try again shortly.")
            return
        if entry is None:
            self._refuse(404, answers.unknown_function(str(self._ref)))
        elif entry.out_of_reach:
            self._count_begin()
            self._refuse(503, f"{self._ref} cannot be called from this gateway: {entry.trouble}.")
        elif not entry.origins:
            self._count_begin()
            self._refuse(504, f"no replica of {self._ref} was ready within {self._timeout_s:g} s.")
        else:
            self.begin(entry)

    def _refuse(self, status: int, text: str) -> None:
        headers = b"Retry-After: 1\r\n" if status == 503 else b""
        answers.refuse(self._exchange, status, text, headers)
        self._done(status)

    def _failed(self) -> None:
        answers.failed(self._exchange)
        self._done(500)

    def _count_begin(self) -> None:
        """Count the call, once, and only now that its function is known to exist."""
        if self._counters is None:
            self._counters = self._invoker.metrics[self._ref]
            self._counters.began()

    def _done(self, status: int) -> None:
        if self._counters is not None:
            self._counters.ended(status, time.monotonic() - self._began)


class Invoker:
    """The synchronous calls of one gateway."""

    def __init__(
        self,
        *,
        pool: ClientPool,
        functions: Directory,
        metrics: telemetry.GatewayMetrics,
        timeout_s: float,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.pool = pool
        self.metrics = metrics
        self.functions = functions
        self.timeout_s = timeout_s
        self.tasks = tasks

    def invoke(self, exchange: Exchange, ref: FunctionRef, route: Route) -> None:
        """Begin a call; answers at once or later."""
        entry = self.functions.known(ref)
        try:
            invoking = Invoking(self, exchange, ref, route)
        except BadRequest as error:
            answers.refuse(exchange, error.status, str(error))
            return
        invoking.begin(entry)


def _refuse_doubles(exchange: Exchange) -> None:
    """Raise BadRequest when a header of ours comes twice: of two values, each reader may believe another."""
    for lower_name, shown in ((b"x-call-id", "X-Call-Id"), (b"x-timeout", "X-Timeout")):
        if sum(name.lower() == lower_name for name, _ in exchange.headers) > 1:
            raise BadRequest(400, TWICE % shown)


def _read_timeout(value: bytes) -> float:
    try:
        return parse_duration(value.decode("latin-1"))
    except ValueError as error:
        raise BadRequest(400, f"X-Timeout cannot be used: {error}.") from error
