"""Find the call that an id stands for: by its record, or where it stands in its queue.

An `X-Call-Id` stands for the first call that was accepted with it. When nothing is known of that one, as of an id that
a synchronous call had or whose record has expired, it stands for the oldest call of its chain of which there is.
"""

from __future__ import annotations

from typing import NoReturn

from holdfast.directory import Directory, ProviderUnavailable
from holdfast.errors import BadRequest
from holdfast.function import FunctionRef
from holdfast.gateway.unstored import Unstored
from holdfast.invocation import CallId
from holdfast.queue import waiting as queued
from holdfast.queue.chains import Chains
from holdfast.queue.connection import Connection
from holdfast.queue.records import AgedOut, Records, Stored
from holdfast.queue.waiting import Waiting

_GONE = {
    False: "the record of call {} has expired.",
    True: "the record of call {} is no longer kept: newer ones took its room (results_max_bytes).",
}
MOST_LOOKED_AT = 100
# Calls of a chain of which nothing is known any more, before the search is given up: some 50 ms.


class NeverStored(BadRequest):
    """There is a record, and its call was never put into a queue."""

    def __init__(self, call_id: CallId) -> None:
        super().__init__(404, f"there is no call {call_id}: it was begun to be stored, and no queue holds it.")


class Lookup:
    """Finds the calls that callers ask one gateway for."""

    def __init__(
        self,
        connection: Connection,
        records: Records,
        chains: Chains,
        unstored: Unstored,
        *,
        functions: Directory,
        namespace: str,
    ) -> None:
        self._connection = connection
        self._records = records
        self._chains = chains
        self._unstored = unstored
        self._functions = functions
        self._namespace = namespace

    async def find(self, call_id: CallId) -> Stored | Waiting:
        """The call that an id stands for. Raises BadRequest: 404, 405 or 410."""
        try:
            return await self.own(call_id)
        except BadRequest:
            oldest = await self._oldest(call_id)
            if oldest is None:
                raise
            return oldest

    async def own(self, call_id: CallId) -> Stored | Waiting:
        """The call that has an id as its own. Raises BadRequest: 404, 405 or 410."""
        found = await self._look(call_id, surely=False)
        if not isinstance(found, Stored | Waiting):
            # Replicas answer first and may lag behind, as while a leader is elected; a refusal takes the leaders' word.
            found = await self._look(call_id, surely=True)
        if isinstance(found, Stored) and await self._unstored.was_never(found):
            raise NeverStored(call_id)
        if not isinstance(found, Stored | Waiting):
            await self._refuse(call_id, found)
        return found

    async def _look(self, call_id: CallId, *, surely: bool) -> Stored | Waiting | AgedOut | None:
        stored = await self._records.read(call_id, surely=surely)
        if isinstance(stored, Stored):
            return stored
        waiting = await queued.find(self._connection, call_id, surely=surely)
        # It may have ended between the two looks.
        return waiting or await self._records.read(call_id, surely=surely)

    async def _oldest(self, common_id: CallId) -> Stored | Waiting | None:
        """The oldest call that is linked under an id and of which anything is known."""
        later, _ = await self._chains.later(common_id, MOST_LOOKED_AT)
        for call_id in later:
            found = await self._look(call_id, surely=False)
            if isinstance(found, Stored | Waiting):
                return found
        return None

    async def _refuse(self, call_id: CallId, found: AgedOut | None) -> NoReturn:
        if found is not None:
            raise BadRequest(410, _GONE[found.made_room].format(call_id))
        if await self._is_function(call_id):
            raise BadRequest(405, f"{call_id} is a function, and an asynchronous call is a POST.")
        raise BadRequest(404, f"there is no call {call_id}.")

    async def _is_function(self, name: str) -> bool:
        try:
            return await self._functions.find(FunctionRef.parse(name, self._namespace)) is not None
        except ProviderUnavailable:
            return False
