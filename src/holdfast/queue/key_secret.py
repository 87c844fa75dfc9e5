"""The secret that ids of idempotency keys are made with: made once by whichever gateway comes first, kept in NATS.

Without it an id cannot be computed from a key. All gateways must have the same, or a repeat would be another call: so
it is written in place of none, and who comes second reads the first's. It is kept for good, in a stream of its own with
the replicas of the others. It is read again after each loss of the connection, as the NATS that is found then may be
another or have lost its data; if it is gone a new one is made, and keys that were used before are new ones.
"""

from __future__ import annotations

import re
import secrets

import structlog
from nats.js.api import StorageType, StreamConfig

from holdfast.errors import QueueError, QueueRefused
from holdfast.queue.api import last_by_leader
from holdfast.queue.connection import Connection
from holdfast.queue.publisher import Publisher
from holdfast.queue.records import WRONG_SEQUENCE

STREAM = "HOLDFAST_secret"
SUBJECT = "holdfast.secret.keys"
SECRET_BYTES = 32
_WRITTEN = re.compile(rb"[0-9a-f]{64}")

log = structlog.get_logger("holdfast.queue")


def stream_config(*, replicas: int) -> StreamConfig:
    """How the stream is made. It has no limits: nothing in it ages or is discarded."""
    return StreamConfig(
        name=STREAM,
        description="The secret that ids of idempotency keys are made with",
        subjects=["holdfast.secret.*"],
        storage=StorageType.FILE,
        max_msgs_per_subject=1,
        num_replicas=replicas,
        allow_direct=True,
        duplicate_window=120.0,
    )


class KeySecret:
    """The secret, as one connection knows it."""

    def __init__(self, connection: Connection, publisher: Publisher) -> None:
        self._connection = connection
        self._publisher = publisher
        self.known: bytes | None = None
        """What was read since the connection stands; None: `read` asks."""
        connection.watch(self)

    async def read(self) -> bytes:
        """The secret; made when there is none. Raises QueueError."""
        while self.known is None:
            found = await last_by_leader(self._connection, STREAM, SUBJECT)
            if found is None:
                await self._make()
            elif _WRITTEN.fullmatch(found.payload) is None:
                raise QueueError(f"the secret under {SUBJECT} in {STREAM} is damaged: no 64 hexadecimal digits")
            else:
                self.known = bytes.fromhex(found.payload.decode("ascii"))
        return self.known

    async def _make(self) -> None:
        """Write one in place of none; whoever was faster has written it."""
        headers = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n"
        try:
            await self._publisher.confirm(SUBJECT.encode(), headers, secrets.token_hex(SECRET_BYTES).encode())
        except QueueRefused as error:
            if error.err_code not in WRONG_SEQUENCE:
                raise
        else:
            log.info("secret for idempotency keys made", stream=STREAM)

    # ---- the connection's listener

    def lost(self) -> None:
        """The NATS that comes back may not be the one that went."""
        self.known = None

    def back(self) -> None:
        """It is read when it is needed."""

    def closed(self) -> None:
        """Nothing more is asked."""
