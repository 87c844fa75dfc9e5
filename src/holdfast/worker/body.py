"""Requests and answers with bodies that are too large for a message: out of the store to a peer, and into it again.

A body is never held here as a whole. It is read from the store one piece at a time, as fast as the peer takes it; an
answer that outgrows a message is stored piece by piece as it comes, and the function is not read while NATS has not
confirmed the piece before. What is small takes neither way: it is collected, as `fetch` of the pool does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from holdfast.errors import AnswerTooLarge, HoldfastError, PeerError
from holdfast.http1.client import Answer, BodyFraming, ClientPool, Collector, Flight, HeadCollector, Origin
from holdfast.invocation import CallId, StoredBody
from holdfast.queue.bodies import RESULT, Bodies, Spool, new_name
from holdfast.worker.insist import insist


class Sender:
    """Sends requests, large ones among them, and takes answers, large ones among them."""

    def __init__(self, bodies: Bodies, *, inline_bytes: int, max_result_bytes: int) -> None:
        self.bodies = bodies
        self.inline_bytes = min(inline_bytes, max_result_bytes)
        """The largest answer that is held."""
        self.max_result_bytes = max_result_bytes
        self._loop = asyncio.get_running_loop()

    async def run(
        self,
        pool: ClientPool,
        origin: Origin,
        request: bytes,
        body: StoredBody | None,
        *,
        call_id: CallId,
        timeout_s: float,
    ) -> tuple[Answer, StoredBody | None]:
        """Have a function run; its answer, and where the answer's body is when it is not in it. HOT.

        `request` ends with its head when it has a stored `body`. Raises PeerError, BodyGone, or QueueRefused when a
        large answer cannot be stored.
        """
        collector = _Storing(self, self._loop.create_future(), origin, call_id)
        if body is not None:
            answer = await self._send_stored(pool, request, body, collector, timeout_s)
            return answer, collector.stored
        flight = collector.flight = pool.send(origin, request, collector, timeout_s=timeout_s)
        try:
            return await collector.answer(), collector.stored
        finally:
            flight.cancel()  # does nothing when the answer came

    async def post(
        self,
        pool: ClientPool,
        origin: Origin,
        head: bytes,
        body: StoredBody,
        *,
        timeout_s: float,
        max_answer_bytes: int,
    ) -> Answer:
        """Send a request with a stored body; gives the head of its answer. Raises PeerError or BodyGone.

        The connection is closed afterwards: each request with a stored body has one of its own.
        """
        collector = _Head(self._loop.create_future(), max_answer_bytes, origin, _nothing)
        return await self._send_stored(pool, head, body, collector, timeout_s)

    async def _send_stored(
        self, pool: ClientPool, head: bytes, body: StoredBody, collector: _Held | _Head, timeout_s: float
    ) -> Answer:
        flight = pool.send(collector.origin, head, collector, timeout_s=timeout_s, body=BodyFraming.LENGTH)
        collector.flight = flight
        writable = asyncio.Event()
        flight.on_flow(writable.clear, writable.set)
        result: Answer | HoldfastError
        async with asyncio.TaskGroup() as tasks:
            upload = tasks.create_task(_upload(flight, writable, self.bodies.read(body, insist), collector))
            try:
                result = await collector.answer()
            except HoldfastError as error:
                result = error  # raised outside, as itself and not in a group
            finally:
                # A peer may answer before it has read everything.
                upload.cancel()
                flight.cancel()
        if isinstance(result, HoldfastError):
            raise result
        return result


def _nothing(_error: PeerError | None) -> None:
    """Nobody waits for the end of what follows an answer's head."""


async def _upload(
    flight: Flight, writable: asyncio.Event, pieces: AsyncIterator[bytes], collector: _Held | _Head
) -> None:
    """Write a body as fast as the peer takes it. How long that may take is the flight's limit."""
    await writable.wait()  # until the connection is made
    try:
        async for piece in pieces:
            await writable.wait()
            flight.write(piece)
        flight.end_body()
    except HoldfastError as error:
        flight.cancel()
        collector.broken(error)


class _Awaited:
    """What both kinds of collectors have: an answer to wait for, which will not come once the request broke off."""

    __slots__ = ()
    _future: asyncio.Future[Answer]

    async def answer(self) -> Answer:
        """The answer, when it is there."""
        return await self._future

    def broken(self, error: HoldfastError) -> None:
        """The request broke off on our side."""
        if not self._future.done():
            self._future.set_exception(error)


class _Held(_Awaited, Collector):
    """Collects an answer, and hears when the request could not be sent to its end."""

    __slots__ = ()


class _Head(_Awaited, HeadCollector):
    """The same of an answer's head."""

    __slots__ = ()


class _Storing(_Held):
    """Collects an answer; one that outgrows a message is stored as it comes."""

    __slots__ = ("_call_id", "_sender", "_spool", "stored")

    def __init__(self, sender: Sender, future: asyncio.Future[Answer], origin: Origin, call_id: CallId) -> None:
        super().__init__(future, sender.inline_bytes, origin)
        self.stored: StoredBody | None = None
        self._sender = sender
        self._call_id = call_id
        self._spool: Spool | None = None

    async def answer(self) -> Answer:
        """The answer, when it is complete and, if it is large, stored."""
        answer = await self._future
        if self._spool is not None:
            self.stored = await self._spool.store(insist)
        return answer

    def exceeded(self, chunk: bytes) -> None:
        """More than is held: from now on it is stored."""
        flight, spool = self.flight, self._spool
        if flight is None:
            return
        if spool is None:
            name = new_name(RESULT, self._call_id)
            spool = self._spool = Spool(self._sender.bodies, name, flight.pause, flight.resume)
            for part in self._parts:
                spool.feed(part)
            self._parts = []
            if not self._future.done():
                self._future.set_result(Answer(self._status, self._headers, b""))
        spool.feed(chunk)
        if spool.size > self._sender.max_result_bytes:
            flight.cancel()
            spool.fail(AnswerTooLarge(str(self.origin), self._sender.max_result_bytes))

    def end(self) -> None:
        """The answer is complete."""
        if self._spool is None:
            super().end()
        else:
            self._spool.close()

    def failed(self, error: PeerError) -> None:
        """No complete answer will come."""
        self.broken(error)

    def broken(self, error: HoldfastError) -> None:
        """It broke off, there or here."""
        if self._spool is None:
            super().broken(error)
        else:
            self._spool.fail(error)
