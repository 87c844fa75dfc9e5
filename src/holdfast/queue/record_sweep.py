"""Make room among the records before JetStream does: it discards the oldest without a trace, and this leaves one.

`results_max_bytes` is what records may take. The stream's own limit lies above it (`stream_limit`), so that it is only
met by what comes in while room is made. When the stream holds more than it may, its oldest messages go:

    a record    a marker takes its place, as for a record that has aged out: empty, and the newest of the stream
    a marker    is removed

So a record that had to go is answered 410 and not 404 for as long again as it took the stream to be filled once, and
markers take no more than their part of it: a marker is 200 bytes, the smallest record 700. It names the record that it
replaces, by sequence: a call that moves on in that moment keeps its record, and the sweep begins anew at its next look.
Any number of workers sweep; of two at the same messages one is refused, and looks again.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import structlog

from holdfast.errors import QueueError, QueueRefused
from holdfast.queue import wire
from holdfast.queue.api import ask
from holdfast.queue.connection import Connection
from holdfast.queue.message import Publication
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import SUBJECT_PREFIX
from holdfast.queue.records import MADE_ROOM, MARKER_REASON, STREAM
from holdfast.queue.waiting import Standing, messages_from
from holdfast.unexpected import Work, forever

PAUSE_S = 1.0
# Between two looks, each one question.
AT_ONCE = 32
# A sweep frees this part of the room, so that there is one in some time and not one for each record.
BATCH = 256
MESSAGE_BYTES = 34
# What the file store adds to subject, headers and payload of a message.

log = structlog.get_logger()


class RecordSweep:
    """Makes room, as long as `sweeping` of body_sweep.py lasts."""

    def __init__(self, connection: Connection, publisher: Publisher, *, results_max_bytes: int) -> None:
        self._connection = connection
        self._publisher = publisher
        self._room = results_max_bytes

    async def run(self) -> None:
        """Look again and again."""
        await forever(Work.RECORDS, self._look)

    async def _look(self) -> None:
        await asyncio.sleep(PAUSE_S)
        try:
            await self.sweep()
        except QueueError as error:
            log.warning("no room made among records", error=str(error))

    async def sweep(self) -> None:
        """One look, and what it says is to be done. Raises QueueError."""
        about = await self._about()
        room = self._room_of(about)
        if about["state"]["bytes"] <= room:
            return
        newest: int = about["state"]["last_seq"]
        records = 0
        while (excess := about["state"]["bytes"] - (room - room // AT_ONCE)) > 0:
            # Not the newest: a record that is larger than all the room is at least kept until the next comes.
            found = [one for one in await self._oldest() if one.sequence < newest]
            oldest = _until(found, excess)
            going = [one for one in oldest if wire.header(one.headers, MARKER_REASON) is None]
            if not oldest or not await self._mark(going):
                break
            # What stands before it now are markers of an earlier turn.
            await ask(self._connection, f"STREAM.PURGE.{STREAM}", seq=oldest[-1].sequence + 1)
            records += len(going)
            about = await self._about()
        log.info("records removed to make room", records=records, bytes=about["state"]["bytes"], room=room)

    async def _about(self) -> dict[str, Any]:
        return await ask(self._connection, f"STREAM.INFO.{STREAM}")

    def _room_of(self, about: dict[str, Any]) -> int:
        """What records may take; less where the stream's limit is another's, as an older version sets it."""
        limit: int = about["config"].get("max_bytes", -1)
        return min(self._room, limit - limit // 8) if limit > 0 else self._room

    async def _oldest(self) -> list[Standing]:
        return await messages_from(self._connection, STREAM, 1, f"{SUBJECT_PREFIX}*", BATCH)

    async def _mark(self, going: list[Standing]) -> bool:
        """Put markers in the place of records, of all or of none. False: one of them is another record by now."""
        if not going:
            return True
        markers = [
            Publication(
                one.subject.encode(),
                b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: %d\r\n%b: %b\r\n\r\n"
                % (one.sequence, MARKER_REASON, MADE_ROOM),
                b"",
            )
            for one in going
        ]
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None, _sequence: int, _duplicate: bool) -> None:  # noqa: FBT001 - the publisher's
            if not stored.done():
                stored.set_exception(error) if error is not None else stored.set_result(None)

        # A short id: it is stored with each marker, and has to differ from those of this moment only.
        self._publisher.publish_batch(markers, secrets.token_hex(4).encode(), done)
        try:
            await stored
        except QueueRefused as error:
            log.debug("records have moved on", error=str(error))
            return False
        return True


def stream_limit(results_max_bytes: int) -> int:
    """What the stream may hold at most: what comes in while room is made stands above what records may take."""
    return results_max_bytes + max(results_max_bytes // 4, 64 * 1024 * 1024)


def _until(oldest: list[Standing], excess: int) -> list[Standing]:
    """The first of them that free so many bytes; all when they are less."""
    for number, one in enumerate(oldest, 1):
        excess -= len(one.subject) + len(one.payload) + MESSAGE_BYTES
        if excess <= 0:
            return oldest[:number]
    return oldest
