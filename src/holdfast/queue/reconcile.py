"""Count what is owed: ids that no confirmation came for, and those that a process left behind when it was killed.

Each part looks after its own doubts, and after what others of its folder left: of all that look one gets the file.
What NATS holds is counted, at the latest LOOK_EVERY_S after it can say so. What it does not hold may still be on its
way, as while a cluster elects a leader: an absence counts once it was seen for ABSENT_S, and never while NATS is away.

What an entry stands for is owed.py's, how NATS is asked evidence.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import structlog

from holdfast import telemetry
from holdfast.errors import QueueError, QueueUnavailable
from holdfast.invocation import CallId
from holdfast.owed import ENDED, OWED, REPLAY, STORED, Entry, LeftBehind, left_behind
from holdfast.queue.connection import Connection
from holdfast.queue.dead_letters import DeadLetters
from holdfast.queue.evidence import call_held, end_held
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallStatus
from holdfast.queue.records import Records
from holdfast.queue.waiting import remove
from holdfast.unexpected import Work, forever

LOOK_EVERY_S = 2.0
# A look at no doubt is the names of one folder.
ABSENT_S = 20.0
# A leader is elected within ten seconds; a message that was sent before is stored by then or never.
TOGETHER = 16
# Questions to NATS at a time.

log = structlog.get_logger("holdfast.queue")


class Reconciler:
    """Settles doubts by asking NATS."""

    def __init__(
        self, connection: Connection, records: Records, letters: DeadLetters, folder: Path | None = None
    ) -> None:
        """`folder`: of what ended processes left; None: there is none to look after."""
        self._connection = connection
        self._records = records
        self._letters = letters
        self._folder = folder
        self._left: list[LeftBehind] = []
        self._absent: dict[bytes, float] = {}
        """Entries that NATS did not know, and since when, by the monotonic clock."""

    async def run(self) -> None:
        """Look, for ever."""
        await forever(Work.COUNTING, self._look)

    async def _look(self) -> None:
        try:
            await self.look()
        except (QueueError, OSError) as error:
            log.warning("counts not reconciled yet", error=str(error))
        # A process that is killed tells nobody.
        await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Settle what can be settled now. Raises QueueError; what was not looked at is left for the next time."""
        await self._settle_all({slot: OWED.entry(slot) for slot in OWED.doubtful}, OWED.strike)
        if self._folder is not None:
            self._left += left_behind(self._folder)
        for left in list(self._left):
            await self._settle_all(left.slots, left.strike)
            if not left.slots:
                self._left.remove(left)
                left.close()

    def close(self) -> None:
        """Leave to others what is not settled."""
        for left in self._left:
            left.close()
        self._left.clear()

    async def _settle_all(self, entries: Mapping[int, bytes], strike: Callable[[int], None]) -> None:
        todo = list(entries.items())
        while todo:
            some, todo = todo[:TOGETHER], todo[TOGETHER:]
            settled = await asyncio.gather(*(self._settle(entry) for _, entry in some), return_exceptions=True)
            for (slot, _), done in zip(some, settled, strict=True):
                if done is True:
                    strike(slot)
            for failed in settled:
                if isinstance(failed, BaseException):
                    raise failed

    async def _settle(self, line: bytes) -> bool:
        """Count what an entry stands for, or give it up; False: it cannot be told yet."""
        entry = Entry.read(line)
        if entry is None or await self._try(entry):
            self._absent.pop(line, None)
            return True
        now = time.monotonic()
        if now - self._absent.setdefault(line, now) < ABSENT_S:
            return False
        del self._absent[line]
        log.debug("nothing to be counted", kind=entry.kind, call_id=entry.call_id)
        return True

    async def _try(self, entry: Entry) -> bool:
        try:
            return await self._count(entry)
        except QueueUnavailable:
            raise
        except Exception:
            # Others wait behind it. What cannot be read now may be later, and is given up as an absence is.
            log.exception("count cannot be settled", kind=entry.kind, call_id=entry.call_id)
            return False

    async def _count(self, entry: Entry) -> bool:
        call_id, words = CallId(entry.call_id), entry.words
        if entry.kind == STORED:
            held = await call_held(self._connection, self._records, call_id, words[0])
            if held is None or words[1:] not in ((), (str(held.accepted_at_ns),)):
                return False
            telemetry.ACCEPTED.labels(str(held.function)).inc()
            log.info("call was stored without confirmation", call_id=call_id, function=str(held.function))
            return True
        if entry.kind == ENDED:
            record = await end_held(self._records, call_id, int(words[0]))
            if record is None:
                return False
            if record.status is CallStatus.CANCELLED:
                # Who wrote that may have got no further: what it was to remove would wait, and count, until its time.
                await remove(self._connection, record.queue, call_id)
            telemetry.ENDS[record.function, record.status].inc()
            log.info("end was recorded without confirmation", call_id=call_id, status=record.status)
            return True
        if entry.kind == REPLAY:
            done = await self._letters.resume(call_id, *words)
        else:
            done = await self._letters.count_replayed(call_id, *words)
        if done:
            log.info("replay of a dead letter completed that had broken off", call_id=call_id)
        return done


@contextlib.asynccontextmanager
async def reconciled(connection: Connection, publisher: Publisher, records: Records) -> AsyncIterator[DeadLetters]:
    """Keep counts true while the context lasts, in the folder that the parts of a server share, or in memory.

    Gives the dead letters, whose broken replays are gone on with.
    """
    letters = DeadLetters(connection, publisher, records)
    named = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    folder = Path(named) if named else None
    reconciler = Reconciler(connection, records, letters, folder)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(OWED.kept_in(folder))
        except OSError as error:
            log.warning("counts that are owed are lost if this process is killed", error=str(error))
        stack.enter_context(contextlib.closing(reconciler))
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(reconciler.run(), name="reconcile counts")
            try:
                yield letters
            finally:
                task.cancel()
