"""Find out why a call waits: look at its queue, at the workers that announced themselves and at its function.

What follows from what is found is why_waiting.py's.
"""

from __future__ import annotations

import time
from typing import Any

from holdfast.directory import Directory, ProviderUnavailable
from holdfast.function import FunctionRef
from holdfast.gateway.call_document import IN_QUEUE, of_both, of_record, of_waiting, record_of, rfc3339
from holdfast.gateway.lane_board import LaneBoard
from holdfast.gateway.why_waiting import Around, why_waiting
from holdfast.queue import waiting as queued
from holdfast.queue.connection import Connection
from holdfast.queue.presence import Presence
from holdfast.queue.record import CallStatus
from holdfast.queue.records import Stored
from holdfast.queue.waiting import Waiting


class Explainer:
    """Describes the calls of one gateway."""

    def __init__(self, connection: Connection, functions: Directory, presence: Presence, lanes: LaneBoard) -> None:
        self._connection = connection
        self._functions = functions
        self._presence = presence
        self._lanes = lanes

    async def document(self, found: Stored | Waiting) -> dict[str, Any]:
        """What callers see of a call; of one that waits, why it does. Raises QueueError."""
        standing = found if isinstance(found, Waiting) else None
        record = found.record if isinstance(found, Stored) else record_of(found)
        shown = of_waiting(found) if isinstance(found, Waiting) else of_record(record)
        if record.status.is_end:
            return {**shown, "waiting": None}
        if isinstance(found, Stored) and record.status in IN_QUEUE:
            standing = await queued.find(self._connection, record.call_id)
            shown = of_both(record, standing)
        function, queue = record.function, record.queue
        held_until = self._lanes.held_until(queue, function)
        no_replica = await self._no_replica(function) if record.status is CallStatus.RUNNING else None
        around = Around(
            is_served=self._presence.is_served(queue, "" if standing is None else standing.provider),
            at_zero=no_replica is not None,
            trouble=no_replica or "",
            limit=self._lanes.limit(queue, function),
            held_until=rfc3339(int(held_until * 1e9)) if held_until and held_until > time.time() else None,
        )
        reason = why_waiting(record, standing, around)
        return {**shown, "waiting": None if reason is None else reason.document()}

    async def _no_replica(self, function: FunctionRef) -> str | None:
        """Why a function has no replica that can be called, as far as that is known; None: it has one.

        One that has none is asked for anew: it changes quickly.
        """
        try:
            entry = await self._functions.ready(function, 0.0)
        except ProviderUnavailable:
            return None
        return self._functions.trouble(entry) if entry is not None and not entry.origins else None
