"""Which workers there are: each says so once a second, and gateways listen.

    holdfast.worker.<queue>    from a worker: a JSON object about it, or one with `left` when it stops
    holdfast.roll-call         from a gateway that has begun to listen: every worker answers at once

Nothing is stored. A worker that was killed is forgotten after FORGET_AFTER_S; one that nobody has heard of may still
come, so that only a gateway that has listened so long says that there is none. What the words in an announcement are
used for is left to whoever reads them.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import structlog

from holdfast.queue import wire
from holdfast.queue.connection import Connection
from holdfast.queue.wire import Msg
from holdfast.unexpected import Work, guarded

SUBJECT_PREFIX = "holdfast.worker."
ROLL_CALL = b"holdfast.roll-call"
EVERY_S = 1.0
FORGET_AFTER_S = 3.0
# Two announcements may be lost, or late on a busy machine.

log = structlog.get_logger("holdfast.queue")


class Worker(NamedTuple):
    """A worker as it last announced itself."""

    worker_id: str
    queue: str
    fields: Mapping[str, Any]
    """What else it said: `max_inflight` and `running` at least."""

    def number(self, name: str) -> int:
        """A number that it announced; 0 when it did not."""
        value = self.fields.get(name)
        return value if isinstance(value, int) else 0


def read(message: Msg) -> Worker | None:
    """What a worker said; None, and a line in the log, when it cannot be read."""
    try:
        said = json.loads(message.payload)
        return Worker(str(said["id"]), str(said["queue"]), said)
    except (ValueError, KeyError, TypeError) as error:
        log.warning("announcement cannot be read", subject=message.subject, error=repr(error))
        return None


class Announcer:
    """Announces one worker, until `close`."""

    def __init__(self, connection: Connection, queue: str, fields: Callable[[], Mapping[str, Any]]) -> None:
        """`fields` is asked at each announcement, so it must be cheap."""
        self._connection = connection
        self._queue = queue
        self._fields = fields
        self._subject = f"{SUBJECT_PREFIX}{queue}".encode()
        self.worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._loop = asyncio.get_running_loop()
        self._sid = connection.subscribe(ROLL_CALL, lambda _message: self.announce())
        self._timer = self._loop.call_later(EVERY_S, self._tick)
        self.announce()

    def close(self) -> None:
        """Say, once, that the worker stops: it takes no more calls, though it may still be ending some."""
        if self._timer.cancelled():
            return
        self._timer.cancel()
        self._connection.unsubscribe(self._sid)
        self._send({"left": True})

    @guarded(Work.PRESENCE)
    def _tick(self) -> None:
        self._timer = self._loop.call_later(EVERY_S, self._tick)
        self.announce()

    def announce(self) -> None:
        """Announce it now: something has changed that cannot wait."""
        self._send(self._fields())

    def _send(self, fields: Mapping[str, Any]) -> None:
        if self._connection.connected:
            said = {"id": self.worker_id, "queue": self._queue, **fields}
            self._connection.send(wire.pub(self._subject, json.dumps(said).encode()))


class Presence:
    """The workers that a gateway hears of, until `close`."""

    def __init__(self, connection: Connection) -> None:
        self.on_heard: Callable[[], None] | None = None
        """Called when somebody has said something."""
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._heard: dict[str, tuple[float, Worker]] = {}
        self._since = self._loop.time()
        self._sid = connection.subscribe(f"{SUBJECT_PREFIX}*".encode(), self._hear)
        connection.watch(self)
        self.back()

    def workers_of(self, queue: str) -> list[Worker]:
        """The workers of a queue that were heard of in the last FORGET_AFTER_S, in the order of their ids."""
        return [worker for worker in self.workers() if worker.queue == queue]

    def is_served(self, queue: str, provider: str = "") -> bool | None:
        """Whether a queue has workers, of a certain provider if one is named.

        None while that cannot be told: too short a time was listened.
        """
        if any(not provider or worker.fields.get("provider") == provider for worker in self.workers_of(queue)):
            return True
        listened_s = self._loop.time() - self._since
        return False if self._connection.connected and listened_s > FORGET_AFTER_S else None

    def close(self) -> None:
        """Listen no more."""
        self._connection.unwatch(self)
        self._connection.unsubscribe(self._sid)

    def workers(self) -> list[Worker]:
        """All workers that were heard of in the last FORGET_AFTER_S, in the order of their ids."""
        before = self._loop.time() - FORGET_AFTER_S
        if self._connection.connected:
            # While there is no connection nobody can be heard: what was known last stands.
            self._heard = {key: heard for key, heard in self._heard.items() if heard[0] >= before}
        return [self._heard[key][1] for key in sorted(self._heard)]

    def _hear(self, message: Msg) -> None:
        worker = read(message)
        if worker is None:
            return
        if worker.fields.get("left"):
            self._heard.pop(worker.worker_id, None)
        else:
            self._heard[worker.worker_id] = (self._loop.time(), worker)
        if self.on_heard is not None:
            self.on_heard()

    # ---- the connection's listener

    def lost(self) -> None:
        """Nobody can be heard."""

    def back(self) -> None:
        """Ask everybody to speak; what was heard before the loss counts for as long again."""
        now = self._since = self._loop.time()
        self._heard = {key: (now, worker) for key, (_, worker) in self._heard.items()}
        if self._connection.connected:
            self._connection.send(wire.pub(ROLL_CALL, b""))

    def closed(self) -> None:
        """There is no connection any more."""
