"""Store calls that arrive together with one commit, where each commit is an fsync. Why: decision 0012.

Theory of operation. With `sync_interval: always` nats-server syncs once for each message, one after the other. An
atomic batch is synced as a whole: it takes as long as some 12 to 16 single messages, and one of 256 messages hardly
longer than one of 16. So up to SINGLES messages are published singly, as without this module: alone, a message pays one
fsync and waits for nobody. Those beyond wait, for no longer than they would in the server; when LEAST have come
together they are a batch. While a batch is under way all that comes waits for the next one. Each stream has its own
batches.

What becomes of a batch:

    confirmed           all its messages are stored: JetStream stores them together or not at all
    refused             all are published singly, under the same message ids; what was stored all the same is answered
                        as a duplicate, which is a confirmation
    connection lost     the publisher sends the batch again when the connection is back. Had it been stored, or had half
                        of it arrived, JetStream refuses it now: see above. What waits for the batch is refused at once
    not confirmed       nobody knows whether it is stored: each is told so, as a single one would be

So nothing is confirmed that JetStream has not confirmed, and nothing is stored twice. A stream that takes no batches
(an older server, one that somebody else configured) costs one refused batch every SINGLY_S.

Source: NATS ADR-50; limits and error codes as met on nats-server 2.15.1: 1000 messages in a batch, 50 batches under way
on a stream, no message id twice in a batch or already stored.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from functools import partial
from typing import NamedTuple

import structlog

from holdfast.errors import QueueRefused
from holdfast.queue.connection import Connection
from holdfast.queue.message import Publication
from holdfast.queue.publisher import Done, Publisher
from holdfast.unexpected import Work, set_aside

SINGLES = 4  # under way singly at most: enough that the server always has the next one to sync
LEAST = 24  # messages that are worth a batch, which takes as long as 12 to 16 single ones
MOST = 500  # messages of a batch; the server's limit is 1000
MOST_BYTES = 4 * 1024 * 1024  # of a batch, as far as one message does not exceed it
SINGLY_S = 10.0  # without batches after one was refused for a reason that may last

_INCOMPLETE = 10176  # its beginning went another way: half of it had arrived on a connection that was lost
_STORED_BEFORE = 10201  # one of its message ids is known: the batch was stored and the confirmation lost

_log = structlog.get_logger("holdfast.queue")


class GroupCommit:
    """Publishes like a Publisher, together what arrives together. For messages without `Nats-Schedule`."""

    def __init__(self, connection: Connection, publisher: Publisher) -> None:
        self._connection = connection
        self._publisher = publisher
        self._streams: dict[bytes, _Stream] = {}
        connection.watch(self)

    def publish(self, subject: bytes, headers: bytes, payload: bytes, done: Done) -> None:
        """As Publisher's. A queue's stream is known by the first word of its subjects. HOT: 1 µs beyond that one's."""
        if not self._connection.connected:
            self._publisher.publish(subject, headers, payload, done)  # refused, and not kept waiting for a batch
            return
        word = subject[: subject.index(b".")]
        stream = self._streams.get(word)
        if stream is None:
            stream = self._streams[word] = _Stream(self._publisher)
        stream.publish(_Waiting(Publication(subject, headers, payload), done))

    # ---- the connection's listener

    def lost(self) -> None:
        """What waits was not sent: whoever asked is told now, and not when the batch before it has ended."""
        for stream in self._streams.values():
            stream.refuse_waiting()

    def back(self) -> None:
        """What is under way is the publisher's to send again."""

    def closed(self) -> None:
        """Nothing more can be sent."""
        self.lost()


class _Waiting(NamedTuple):
    """A message and who is told what became of it."""

    message: Publication
    done: Done


class _Stream:
    """What is under way to one stream."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._singles = 0  # under way
        self._batch_under_way = False
        self._woken = False
        self._singly_until = 0.0
        self._token = secrets.token_hex(4).encode()
        self._batches = 0

    def publish(self, one: _Waiting) -> None:
        """Publish now, or note for the end of this turn."""
        if self._singles < SINGLES and not self._waiting and not self._batch_under_way:
            self._publish_singly(one)
        else:
            self._waiting.append(one)
            self._wake()

    def refuse_waiting(self) -> None:
        """End all that waits, by the publisher's words for it."""
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            self._publisher.publish(*one.message, one.done)

    def _wake(self) -> None:
        if self._waiting and not self._woken:
            self._woken = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Send what waits, as far as it is its turn."""
        self._woken = False
        if self._batch_under_way:
            return
        waiting = self._waiting
        singly = self._loop.time() < self._singly_until
        if len(waiting) >= LEAST and not singly:
            # Once the single ones are confirmed: callers that were answered together come again together, and the more
            # of them the batch finds the better.
            if not self._singles:
                self._publish_batch()
            return
        while waiting and (singly or self._singles < SINGLES):
            self._publish_singly(waiting.popleft())

    def _publish_singly(self, one: _Waiting) -> None:
        self._singles += 1
        self._publisher.publish(*one.message, partial(self._single_ended, one.done))

    def _single_ended(self, done: Done, error: Exception | None, sequence: int, duplicate: bool) -> None:  # noqa: FBT001 - see Done
        self._singles -= 1
        self._wake()
        done(error, sequence, duplicate)

    def _publish_batch(self) -> None:
        batch: list[_Waiting] = []
        room = MOST_BYTES
        while self._waiting and room > 0 and len(batch) < MOST:
            one = self._waiting.popleft()
            batch.append(one)
            room -= len(one.message.payload)
        self._batch_under_way = True
        self._batches += 1
        self._publisher.publish_batch(
            [one.message for one in batch], b"%b-%d" % (self._token, self._batches), partial(self._batch_ended, batch)
        )

    def _batch_ended(
        self,
        batch: list[_Waiting],
        error: Exception | None,
        sequence: int,
        _duplicate: bool,  # noqa: FBT001 - see Done
    ) -> None:
        self._batch_under_way = False
        # 503 is said of the stream, not of the batch: it is away or full, and would be for each message.
        if isinstance(error, QueueRefused) and error.code != 503:
            if error.err_code not in {_INCOMPLETE, _STORED_BEFORE}:
                self._singly_until = self._loop.time() + SINGLY_S
                _log.warning("batch_refused", messages=len(batch), error=str(error), singly_s=SINGLY_S)
            for one in batch:
                self._publish_singly(one)
        else:
            # The sequence is that of the last one: they are stored without anything in between.
            first = 0 if error is not None else sequence - len(batch) + 1
            for place, one in enumerate(batch):
                try:
                    one.done(error, first + place if first else 0, False)
                except Exception as failed:  # noqa: BLE001 - others of the batch wait behind it
                    subject = one.message.subject.decode("utf-8", "replace")
                    set_aside(Work.PUBLISHING, failed, subject=subject)
        self._wake()
