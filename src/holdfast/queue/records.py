"""Where records are kept: a stream with one subject for each call and one message for each subject.

Records age out after `results_ttl`, or make room for others; the stream then keeps a marker for MARKER_TTL_S, at most
`results_ttl`, so that a call that once was is told from one that never was. What a record says is decided elsewhere.

Each write names the record that it replaces, by sequence (0: there is none), and is refused when another has come in
between. So a call that was cancelled stays cancelled though its worker ends it a moment later.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import NamedTuple

from nats.js.api import StorageType, StreamConfig

from holdfast.errors import QueueRefused
from holdfast.invocation import CallId
from holdfast.queue import wire
from holdfast.queue.api import last_by_leader, last_by_replica
from holdfast.queue.connection import Connection
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import SUBJECT_PREFIX, CallRecord, UnreadableRecord, decode, encode, subject_of_record
from holdfast.queue.succession import may_follow

STREAM = "HOLDFAST_calls"
MOST_TOGETHER = 1000
# Messages of one batch that nats-server commits together.
MARKER_TTL_S = 7 * 24 * 3600.0
WRONG_SEQUENCE = frozenset({10071, 10164})
# JetStream's err_codes when the subject's last sequence is not the expected one. The second does not say which it is:
# so answers the leader of a replicated stream while another write under the same subject is on its way to the replicas.
MARKER_REASON = b"Nats-Marker-Reason"
# What tells a marker from a record, in every version.
MADE_ROOM = b"MaxBytes"
# The reason that record_sweep gives; those of nats-server are others.

Written = Callable[[Exception | None, int], None]
"""Called once with the error or None, and the record's sequence."""


class Stored(NamedTuple):
    """A record with the body of its result, and the sequence that a later write must name."""

    record: CallRecord
    body: bytes
    sequence: int
    stored_at: str = ""
    """When it was written, by NATS's clock, RFC 3339."""


class AgedOut(NamedTuple):
    """There was a record, and its time is over."""

    sequence: int
    made_room: bool = False
    """Whether it had to make room for others before."""


class Conflict(QueueRefused):
    """Another record was written in between; read again and decide again."""


def stream_config(*, replicas: int, ttl_s: float, max_bytes: int) -> StreamConfig:
    """How the stream is made. When it is full the oldest records go first, and nothing tells that they were there.

    So it is never to be full: record_sweep.py makes room in time.
    """
    return StreamConfig(
        name=STREAM,
        description="Records of calls",
        subjects=[f"{SUBJECT_PREFIX}*"],
        storage=StorageType.FILE,
        max_msgs_per_subject=1,
        max_age=ttl_s,
        max_bytes=max_bytes,
        num_replicas=replicas,
        allow_direct=True,
        allow_msg_ttl=True,
        subject_delete_marker_ttl=MARKER_TTL_S,
        duplicate_window=min(120.0, ttl_s),
        allow_atomic=True,
    )


class Records:
    """The records of all calls, over one connection."""

    def __init__(self, connection: Connection, publisher: Publisher) -> None:
        self._connection = connection
        self._publisher = publisher

    async def read(self, call_id: CallId, *, surely: bool = False) -> Stored | AgedOut | None:
        """A call's record; None when there is none and was none. Raises QueueError, UnreadableRecord among them.

        Any replica answers from its store, without a turn through the stream's leader; `surely` asks the leader.
        """
        subject = subject_of_record(call_id).decode()
        found = await (last_by_leader if surely else last_by_replica)(self._connection, STREAM, subject)
        if found is None:
            return None
        reason = wire.header(found.headers, MARKER_REASON)
        if reason is not None:
            return AgedOut(found.sequence, reason == MADE_ROOM)
        try:
            record, body = decode(found.payload)
        except UnreadableRecord as error:
            error.sequence = found.sequence
            raise
        return Stored(record, body, found.sequence, found.stored_at)

    async def amend(
        self, call_id: CallId, message_id: str, change: Callable[[CallRecord], CallRecord]
    ) -> CallRecord | None:
        """Change the record of one accepted call, whatever else is written meanwhile; gives what then stands there.

        A change that may not follow what stands there is not made (succession.py). None: it has no record. Raises
        QueueError.
        """
        while True:
            stored = await self.read(call_id, surely=True)
            if not isinstance(stored, Stored) or stored.record.message_id != message_id:
                return None
            changed = change(stored.record)
            if changed == stored.record or not may_follow(stored.record, changed):
                return stored.record
            try:
                await self.put(changed, stored.body, stored.sequence)
            except Conflict:
                continue
            return changed

    def write(self, record: CallRecord, body: bytes, replaces: int, written: Written) -> None:
        """Write a record in place of the one with sequence `replaces`, 0 for none. HOT: no task, no future.

        The error is a Conflict when another record stands there.
        """
        headers = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: %d\r\n\r\n" % replaces

        def done(error: Exception | None, sequence: int, _duplicate: bool) -> None:  # noqa: FBT001 - the publisher's
            if isinstance(error, QueueRefused) and error.err_code in WRONG_SEQUENCE:
                error = Conflict(error.code, error.err_code, error.description)
            written(error, sequence)

        self._publisher.publish(subject_of_record(record.call_id), headers, encode(record, body), done)

    async def put_first(self, records: list[CallRecord]) -> bool:
        """Write the records of up to MOST_TOGETHER calls that have none, in one commit: all of them, or none.

        False: none was written, as one of the calls has a record. With durability `disk` one commit is one fsync, so
        that 256 together cost a tenth of 256 that are written one by one. Raises QueueUnavailable; then it is unknown.
        """
        batch = f"NATS/1.0\r\nNats-Batch-Id: {secrets.token_hex(16)}\r\nNats-Expected-Last-Subject-Sequence: 0\r\n"
        *before, last = records
        for number, record in enumerate(before, start=1):
            headers = f"{batch}Nats-Batch-Sequence: {number}\r\n\r\n".encode()
            self._connection.send(wire.hpub(subject_of_record(record.call_id), headers, encode(record, b"")))
        headers = f"{batch}Nats-Batch-Sequence: {len(records)}\r\nNats-Batch-Commit: 1\r\n\r\n".encode()
        try:
            await self._publisher.confirm(subject_of_record(last.call_id), headers, encode(last, b""))
        except QueueRefused:
            return False
        return True

    async def put(self, record: CallRecord, body: bytes, replaces: int) -> int:
        """Like `write`; gives the sequence, raises Conflict, QueueRefused or QueueUnavailable."""
        headers = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: %d\r\n\r\n" % replaces
        try:
            return await self._publisher.confirm(subject_of_record(record.call_id), headers, encode(record, body))
        except QueueRefused as error:
            if error.err_code not in WRONG_SEQUENCE:
                raise
            # It may be ours that stands there: published, its confirmation lost with the connection, published again.
            stored = await self.read(record.call_id, surely=True)
            if isinstance(stored, Stored) and stored.record == record:
                return stored.sequence
            raise Conflict(error.code, error.err_code, error.description) from error
