"""Give an accepted call an id of its own though its caller brought one: `X-Call-Id`.

    none brought           its own is made: accept.py's, nothing of this file
    one that gateways      it is another call's, whose callback or caller brings it: this call is a later one of that
    make                   chain, under an id of its own. So it is also when that call has no record, as it runs
    any other              the first call that comes with it has it. To have it is to write its record, `waiting` or
                           `scheduled`, in place of none; whoever comes later is a later one of the chain

A later one is linked to the id it came with before it is stored. What function and receiver see is the same for all of
a chain; what is found, shown and stopped is one call.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import NamedTuple

import structlog

from holdfast.errors import QueueError
from holdfast.gateway.large_body import LargeBodies
from holdfast.gateway.unstored import Unstored, first_record
from holdfast.invocation import CallId, Invocation, is_issued_id
from holdfast.queue import records as call_records
from holdfast.queue import waiting
from holdfast.queue.api import delete
from holdfast.queue.chains import Chains
from holdfast.queue.connection import Connection
from holdfast.queue.message import recorded_message_id
from holdfast.queue.record import UnreadableRecord
from holdfast.queue.records import Conflict, Records, Stored

QUEUES_KNOWN_FOR_S = 1.0
# A queue that is younger holds no call that has waited for long.

log = structlog.get_logger()


class Owned(NamedTuple):
    """A call with an id of its own, ready to be put into its queue."""

    invocation: Invocation
    claim: int = 0
    """Sequence of the record that was written for it; 0: none was."""
    link: int = 0
    """Sequence of its link; 0: it has none."""


def likely_id(own_id: CallId, brought: CallId | None) -> CallId:
    """Which of the two a call will most likely have; a large body is stored under it before that is known."""
    return own_id if brought is None or is_issued_id(brought) else brought


class Claims:
    """Gives ids to the calls of one gateway that bring one."""

    def __init__(
        self, connection: Connection, records: Records, chains: Chains, unstored: Unstored, large: LargeBodies
    ) -> None:
        self._connection = connection
        self._records = records
        self._chains = chains
        self._unstored = unstored
        self._large = large
        self._queues: list[str] = []
        self._queues_at = -QUEUES_KNOWN_FOR_S

    async def own(self, invocation: Invocation, queue: str, at: datetime | None, delay_s: float) -> Owned:
        """Decide whose the id is that a call brings as `chain_id`. Raises QueueError.

        The call is about to be put into a queue, to be run from `at` on, in `delay_s`.
        """
        brought = invocation.chain_id
        if brought is not None and not is_issued_id(brought):
            first = invocation._replace(
                call_id=brought, chain_id=None, message_id=recorded_message_id(brought, invocation.message_id)
            )
            claim = await self._claim(first, queue, at)
            if claim:
                return Owned(first, claim=claim)
        invocation = await self._large.under_own_id(invocation)
        return Owned(invocation, link=await self._chains.link(invocation, delay_s))

    async def _claim(self, first: Invocation, queue: str, at: datetime | None) -> int:
        """Write a record under the id in place of none; gives its sequence, 0 when another call has the id."""
        record = first_record(first, queue, at)
        if await self._stands(first.call_id):
            return 0
        replaces = 0
        while True:
            # Most ids are new: whether this one is, the write itself tells.
            try:
                return await self._records.put(record, b"", replaces)
            except Conflict:
                try:
                    stored = await self._records.read(first.call_id, surely=True)
                except UnreadableRecord:
                    return 0  # whosever it is, it is not this call's
                if isinstance(stored, Stored) and not await self._unstored.was_never(stored):
                    return 0
                replaces = 0 if stored is None else stored.sequence

    async def _stands(self, call_id: CallId) -> bool:
        """Whether a call stands in a queue, though it may have no record.

        One of version 0.1 has none until it runs, and one that waits for longer than records are kept has none any
        more.
        """
        now = time.monotonic()
        if now - self._queues_at > QUEUES_KNOWN_FOR_S:
            self._queues, self._queues_at = await waiting.queues(self._connection), now
        found = await asyncio.gather(*(waiting.stands(self._connection, queue, call_id) for queue in self._queues))
        return any(found)

    async def give_back(self, owned: Owned) -> None:
        """Its queue has refused the call: it has no id, and whoever comes with it next is the first."""
        try:
            if owned.claim:
                await delete(self._connection, call_records.STREAM, owned.claim)
            if owned.link:
                await self._chains.unlink(owned.link)
        except QueueError as error:
            # Its record is not believed for long, and its link leads nowhere.
            log.info("id not given back", call_id=owned.invocation.call_id, error=str(error))
