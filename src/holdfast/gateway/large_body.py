"""Take in a request's body that may be too large for a message: small after all, or piece by piece into the store.

    declared, small        accept.py's own way; nothing of this file
    declared, large        stored from its first byte on
    chunked                held until it is more than a message takes, then stored

What is held of a body that is being stored is two pieces, whatever its size: the socket is not read while NATS has not
confirmed the one before. A client that leaves, sends too much or too slowly leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from holdfast.errors import QueueError
from holdfast.gateway import answers
from holdfast.http1.server import Exchange
from holdfast.invocation import Invocation, StoredBody
from holdfast.queue.bodies import REQUEST, Abandoned, Bodies, BodyName, Spool, new_name
from holdfast.unexpected import Work, alone

if TYPE_CHECKING:
    from holdfast.gateway.accept import Accepting

log = structlog.get_logger()


class LargeBodies:
    """The large bodies that one gateway takes in."""

    def __init__(
        self, bodies: Bodies, *, inline_bytes: int, max_body_bytes: int, most_at_once: int, tasks: asyncio.TaskGroup
    ) -> None:
        self.bodies = bodies
        self.inline_bytes = inline_bytes
        """The largest body that travels inside its message."""
        self.tasks = tasks
        self.most_at_once = most_at_once
        self.under_way = 0
        self._max_body_bytes = max_body_bytes

    def take(self, exchange: Exchange, accepting: Accepting) -> None:
        """Begin to read; hands the body, or its name, to `accepting`, or answers in its place."""
        length = exchange.content_length or 0
        taking = _Taking(self, exchange, accepting)
        # What is declared too large is refused by the lane, unread.
        if not self.inline_bytes < length <= self._max_body_bytes or taking.begin():
            exchange.stream(taking, self._max_body_bytes, steady=True)

    async def under_own_id(self, invocation: Invocation) -> Invocation:
        """The call with its large body, if it has one, under its own id, by which it is told whether a body is needed.

        A body comes in under the id that its call will most likely have. When another call has that id it is copied,
        and stored once more. Raises QueueError.
        """
        body = invocation.body
        if body is None or BodyName.parse(body.name).call_id == invocation.call_id:
            return invocation
        name = new_name(REQUEST, invocation.call_id)
        number = 0
        try:
            async for piece in self.bodies.read(body):
                await self.bodies.write(name, number, piece)
                number += 1
        except BaseException:
            await self.bodies.discard(name)
            raise
        await self.bodies.discard(body.name)
        return invocation._replace(body=body._replace(name=name))

    async def forget(self, body: StoredBody | None) -> None:
        """Remove a body, if there is one, that no call names."""
        if body is not None:
            await self.bodies.discard(body.name)


class _Taking:
    """One body that is coming in; the reader of its exchange."""

    def __init__(self, shared: LargeBodies, exchange: Exchange, accepting: Accepting) -> None:
        self._shared = shared
        self._exchange = exchange
        self._accepting = accepting
        self._small = bytearray()
        self._spool: Spool | None = None

    def begin(self) -> bool:
        """Begin to store. False: too many are at it, the exchange is answered."""
        shared, exchange = self._shared, self._exchange
        if shared.under_way >= shared.most_at_once:
            text = f"{shared.under_way} large bodies are coming in, more may not (max_uploads): try again shortly."
            answers.refuse(exchange, 503, text, b"Retry-After: 1\r\n")
            return False
        name = new_name(REQUEST, self._accepting.body_id)
        self._spool = spool = Spool(shared.bodies, name, exchange.pause_body, exchange.resume_body)
        shared.under_way += 1
        storing = alone(Work.ACCEPTING, lambda: self._store(spool), lambda _: answers.failed(exchange), body=str(name))
        task = shared.tasks.create_task(storing, name=f"store {name}")
        task.add_done_callback(self._over)
        return True

    def _over(self, _task: asyncio.Task[None]) -> None:
        self._shared.under_way -= 1

    # ---- the exchange

    def body_data(self, data: bytes) -> None:
        """More of it."""
        if self._spool is None:
            if not self._exchange.keep_in_memory(len(data)):
                return
            self._small += data
            if len(self._small) <= self._shared.inline_bytes or not self.begin():
                return
            # What is on its way to the store is bounded by the number of those that are.
            self._exchange.let_go()
            data, self._small = bytes(self._small), bytearray()
        if self._spool is not None:
            self._spool.feed(data)

    def body_end(self) -> None:
        """It is complete."""
        if self._spool is None:
            self._accepting.body_complete(self._exchange, bytes(self._small))
        else:
            self._spool.close()

    def body_lost(self) -> None:
        """The client left, was refused, or too slow."""
        if self._spool is not None:
            self._spool.fail(Abandoned(self._spool.name))

    async def _store(self, spool: Spool) -> None:
        try:
            body = await spool.store()
        except Abandoned as error:
            log.info("body broke off", body=error.name, bytes=spool.size)
        except QueueError as error:
            self._accepting.not_stored(self._exchange, error)
        else:
            self._accepting.body_complete(self._exchange, b"", body)
