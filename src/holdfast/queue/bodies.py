"""Bodies that are too large to travel inside a message: in pieces, in a stream of their own.

    holdfast.body.request.<call id>.<id of the body>    what a function is to be given
    holdfast.body.result.<call id>.<id of the body>     what it answered

Each subject holds the pieces of one body in their order, each with its number in a header. A body is written by one
`Spool`, piece after piece, the next when the one before is confirmed: nothing larger than two pieces is ever held, and
whoever brings the bytes is told to pause. Publishing a piece again after a lost connection may store it twice; the
number tells. Reading asks for one piece at a time.

Nothing here ages out. Who needs a body and when it goes is body_sweep.py's.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from nats.js.api import StorageType, StreamConfig

from holdfast.errors import QueueError, QueueRefused, QueueUnavailable
from holdfast.invocation import CallId, StoredBody
from holdfast.queue import wire
from holdfast.queue.api import TIMEOUT_S, ask
from holdfast.queue.connection import Connection
from holdfast.queue.message import Publication
from holdfast.queue.publisher import Publisher

STREAM = "HOLDFAST_bodies"
SUBJECT_PREFIX = "holdfast.body."
REQUEST = "request"
RESULT = "result"
PIECE_BYTES = 256 * 1024
# A quarter of the smallest max_payload that is usual. Larger pieces cost more memory for each body that is on its way,
# smaller ones more confirmations: at 256 KiB a commit to disk is a small part of writing one.
HEADS_BYTES = 320 * 1024
# What a message may need besides two bodies, as a dead letter has them: the heads of request and answer, 128 KiB each,
# and 64 KiB of headers.
MOST_PIECES_UNDER_WAY = 32
# Of all bodies that one part writes: 8 MiB on their way to NATS, far from where it counts as congested.

Insist = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Tries a step again for as long as it thinks right. Without one the first failure of a step counts."""

log = structlog.get_logger("holdfast.queue")


class _Piece(NamedTuple):
    number: int
    sequence: int
    payload: bytes

    @classmethod
    def of(cls, headers: bytes, payload: bytes, sequence: int) -> _Piece:
        return cls(int(wire.header(headers, b"Holdfast-Piece") or b"0"), sequence, payload)


class BodyGone(QueueError):
    """A body, or a piece of it, is not there any more."""

    def __init__(self, body: StoredBody) -> None:
        super().__init__(f"the body {body.name} of {body.size} bytes is no longer stored")
        self.body = body


def stream_config(*, replicas: int) -> StreamConfig:
    """How the stream is made. It has no limits: a piece that is discarded would break a call that was accepted."""
    return StreamConfig(
        name=STREAM,
        description="Bodies of requests and results that are too large for one message",
        subjects=[f"{SUBJECT_PREFIX}*.*.*"],
        storage=StorageType.FILE,
        num_replicas=replicas,
        duplicate_window=120.0,
        allow_direct=True,
    )


def inline_limit(wanted: int, max_payload: int) -> int:
    """The largest body that travels inside a message: as wanted, but two of them must fit into one, with their heads.

    Zero or less when this server's messages are too small for anything.
    """
    return min(wanted, (max_payload - HEADS_BYTES) // 2)


def new_name(kind: str, call_id: CallId) -> str:
    """A name for a body that is about to be written; the end of it sorts by time."""
    return f"{kind}.{call_id}.{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


class BodyName(NamedTuple):
    """A body's name, taken apart."""

    kind: str
    call_id: CallId
    number: str

    @classmethod
    def of_subject(cls, subject: str) -> BodyName:
        """Of the body that stands there."""
        return cls.parse(subject.removeprefix(SUBJECT_PREFIX))

    @classmethod
    def parse(cls, text: str) -> BodyName:
        """Read a name."""
        kind, call_id, number = text.split(".")
        return cls(kind, CallId(call_id), number)

    @property
    def begun_at_s(self) -> float:
        """When it was named, Unix seconds; of a name that is none of ours: long ago."""
        try:
            return int(self.number[:12], 16) / 1000
        except ValueError:
            return 0.0

    def __str__(self) -> str:
        return f"{self.kind}.{self.call_id}.{self.number}"


class Bodies:
    """The bodies in the stream, over one connection."""

    def __init__(self, connection: Connection, publisher: Publisher) -> None:
        self._connection = connection
        self._publisher = publisher
        self._under_way = asyncio.Semaphore(MOST_PIECES_UNDER_WAY)

    @property
    def piece_bytes(self) -> int:
        """Length of a piece: as much as this server takes, on one that takes little."""
        return min(PIECE_BYTES, self._connection.max_payload // 2)

    async def write(self, name: str, number: int, piece: bytes) -> None:
        """Store a piece. Raises QueueError."""
        headers = b"NATS/1.0\r\nNats-Msg-Id: %b/%d\r\nHoldfast-Piece: %d\r\n\r\n" % (name.encode(), number, number)
        async with self._under_way:
            await self._publisher.confirm(*Publication(f"{SUBJECT_PREFIX}{name}".encode(), headers, piece))

    async def read(self, body: StoredBody, insist: Insist | None = None) -> AsyncIterator[bytes]:
        """The pieces in their order. Raises BodyGone when one is missing, QueueUnavailable unless `insist` waits."""
        subject = SUBJECT_PREFIX + body.name
        after = number = size = 0
        while size < body.size:
            step = functools.partial(self._next, subject, after)
            piece: _Piece | None = await (step() if insist is None else insist(step))
            if piece is None:
                raise BodyGone(body)
            after = piece.sequence
            if piece.number < number:
                continue  # stored twice
            size += len(piece.payload)
            if piece.number > number or size > body.size:
                raise BodyGone(body)
            number += 1
            yield piece.payload

    async def _next(self, subject: str, after: int) -> _Piece | None:
        wanted = {"seq": after + 1, "next_by_subj": subject}
        message = await self._connection.request(
            f"$JS.API.DIRECT.GET.{STREAM}".encode(), json.dumps(wanted).encode(), TIMEOUT_S
        )
        status = wire.status(message.headers)
        if status == 404:
            return await self._next_of_leader(wanted)
        if status:
            raise QueueUnavailable(f"a body cannot be read: {wire.status_text(message.headers)}")
        return _Piece.of(message.headers, message.payload, int(wire.header(message.headers, b"Nats-Sequence") or b"0"))

    async def _next_of_leader(self, wanted: dict[str, Any]) -> _Piece | None:
        """Any replica may answer a direct read, also one that lags: that a piece is gone only the leader can say."""
        try:
            message = (await ask(self._connection, f"STREAM.MSG.GET.{STREAM}", **wanted))["message"]
        except QueueRefused as error:
            if error.code == 404:
                return None
            raise
        headers, payload = (base64.b64decode(message.get(part, "")) for part in ("hdrs", "data"))
        return _Piece.of(headers, payload, int(message["seq"]))

    async def delete(self, name: str) -> None:
        """Remove a body, whole or begun. Raises QueueError."""
        await ask(self._connection, f"STREAM.PURGE.{STREAM}", filter=SUBJECT_PREFIX + name)

    async def discard(self, name: str) -> None:
        """Remove a body that no call needs; what cannot be removed now is swept later."""
        try:
            await self.delete(name)
        except QueueError as error:
            log.info("body not removed yet", body=name, error=str(error))

    async def sizes(self) -> dict[BodyName, int]:
        """Every body, whole or begun, and about how many bytes it has: its pieces, all taken for whole ones."""
        found: dict[BodyName, int] = {}
        while True:
            info = await ask(
                self._connection,
                f"STREAM.INFO.{STREAM}",
                subjects_filter=f"{SUBJECT_PREFIX}>",
                offset=len(found),
            )
            subjects: dict[str, int] = info["state"].get("subjects") or {}
            found |= {BodyName.of_subject(name): count * self.piece_bytes for name, count in subjects.items()}
            if not subjects or len(found) >= int(info.get("total", 0)):
                return found

    async def last_written_s(self, name: BodyName) -> float:
        """When the newest piece was stored, Unix seconds; 0 when there is none."""
        subject = f"{SUBJECT_PREFIX}{name}"
        message = await self._connection.request(
            f"$JS.API.DIRECT.GET.{STREAM}".encode(), json.dumps({"last_by_subj": subject}).encode(), TIMEOUT_S
        )
        stamp = wire.header(message.headers, b"Nats-Time-Stamp")
        return 0.0 if stamp is None else datetime.fromisoformat(stamp.decode("ascii")).timestamp()


class Abandoned(QueueError):
    """A body that was being written will never be whole: whoever brought it broke off."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the body {name} broke off")
        self.name = name


class Spool:
    """Stores one body as it comes: `feed` and `close` are called as bytes arrive, `store` is awaited meanwhile.

    `pause` is called when a whole piece waits for its turn, `resume` when there is room again.
    """

    def __init__(self, bodies: Bodies, name: str, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self.name = name
        self.size = 0
        """Bytes that came."""
        self._bodies = bodies
        self._piece_bytes = bodies.piece_bytes
        self._pause = pause
        self._resume = resume
        self._waiting = bytearray()
        self._paused = False
        self._closed = False
        self._failure: Exception | None = None
        self._changed = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """More of the body."""
        self.size += len(data)
        self._waiting += data
        if len(self._waiting) >= self._piece_bytes:
            self._changed.set()
            if not self._paused:
                self._paused = True
                self._pause()

    def close(self) -> None:
        """The body is complete."""
        self._closed = True
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """The rest will never come: `store` raises this."""
        self._failure = error
        self._changed.set()

    async def store(self, insist: Insist | None = None) -> StoredBody:
        """Store what comes until it is complete. Raises QueueError, or what `fail` was given; then nothing is left."""
        digest = hashlib.sha256()
        number = 0
        try:
            while (piece := await self._next_piece()) is not None:
                digest.update(piece)
                step = functools.partial(self._bodies.write, self.name, number, piece)
                await (step() if insist is None else insist(step))
                number += 1
        except BaseException:
            self._waiting.clear()
            await self._bodies.discard(self.name)
            raise
        return StoredBody(self.name, self.size, digest.hexdigest())

    async def _next_piece(self) -> bytes | None:
        """The next whole piece, or the last one; None behind it. How long that takes is the bringer's to limit."""
        while self._failure is None and not self._closed and len(self._waiting) < self._piece_bytes:
            self._changed.clear()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        if not self._waiting:
            return None
        piece = bytes(self._waiting[: self._piece_bytes])
        del self._waiting[: self._piece_bytes]
        if self._paused and len(self._waiting) < self._piece_bytes:
            self._paused = False
            self._resume()
        return piece
