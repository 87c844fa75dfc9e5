"""Store a call once, however often it is sent: `Idempotency-Key`.

Namespace, function and key give the call's id, by way of a secret, so that nobody can compute it; the request gives its
message id. A record is written first, `waiting` or `scheduled`, in place of none: of any number that come at once, at
any number of gateways, one writes it. The others find it and know the first call again, or find another request under
the key and say so. Publishing the call itself twice is harmless, its message id is the same, so whoever finds a record
whose call is not in its queue publishes it: the first may have died in between.

A key whose call failed, expired or was cancelled begins anew, in its next generation, which has another id. The first
is 0; where the count stands is noted before a generation begins, and counted on from there.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import uuid
from datetime import datetime
from typing import NamedTuple

from holdfast import owed, telemetry
from holdfast.errors import BadRequest
from holdfast.function import FunctionRef
from holdfast.gateway.call_options import fingerprint
from holdfast.gateway.large_body import LargeBodies
from holdfast.gateway.unstored import NOT_BEGUN, Unstored, first_record
from holdfast.invocation import CallId, Invocation, issued_id
from holdfast.owed import NO_SLOT, OWED
from holdfast.queue import waiting
from holdfast.queue.chains import Chains
from holdfast.queue.connection import Connection
from holdfast.queue.key_secret import KeySecret
from holdfast.queue.message import original_of, recorded_message_id, to_publish, to_publish_later
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallStatus
from holdfast.queue.records import AgedOut, Conflict, Records, Stored

_BEGINS_ANEW = frozenset({CallStatus.FAILED, CallStatus.EXPIRED, CallStatus.CANCELLED})

_OF_0_1 = uuid.UUID("b6f9a1d2-6f0e-4c8e-9a54-3f1d6a1c7e11")
# Version 0.1 made ids of keys as UUIDs of version 5 in this namespace. Its calls are known again by them.
_KEYED_BY_0_1 = re.compile(r"[0-9a-f-]{36}-[0-9a-f]{32}")
# The message id of such a call; no other call under such an id has one of this form.


def id_of_key(secret: bytes, ref: FunctionRef, key: str, generation: int) -> CallId:
    """The id of a key's call: as random as the secret to who does not have it. A key holds no NUL, nor does a name."""
    text = "\0".join((ref.namespace, ref.name, key, str(generation)))
    return issued_id(hmac.new(secret, text.encode("ascii"), hashlib.sha256).hexdigest()[:32])


def id_of_key_in_0_1(ref: FunctionRef, key: str) -> CallId:
    """The id that version 0.1 gave a key's call."""
    return CallId(str(uuid.uuid5(_OF_0_1, f"{ref}/{key}")))


def identified(invocation: Invocation, call_id: CallId) -> Invocation:
    """The call under an id, which its function is told; its request has no `X-Call-Id` before."""
    line, _, rest = invocation.request.partition(b"\r\n")
    return invocation._replace(
        call_id=call_id,
        message_id=recorded_message_id(call_id, fingerprint(invocation.request, invocation.body)),
        request=b"%b\r\nX-Call-Id: %b\r\n%b" % (line, call_id.encode(), rest),
    )


class Once(NamedTuple):
    """What came of storing a call that carries a key."""

    call_id: CallId
    accepted_at_ns: int
    """When it was accepted first, in Unix nanoseconds."""
    known: bool
    """Whether it had been accepted before."""
    owes: int = NO_SLOT
    """What is struck off when it is counted."""


class Idempotency:
    """Stores calls that carry a key."""

    def __init__(
        self,
        connection: Connection,
        publisher: Publisher,
        records: Records,
        *,
        secret: KeySecret,
        chains: Chains,
        unstored: Unstored,
        large: LargeBodies,
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._records = records
        self._secret = secret
        self._chains = chains
        self._unstored = unstored
        self._large = large

    def likely_id(self, ref: FunctionRef, key: str) -> CallId | None:
        """The id that a key's call most likely has, for its large body to be stored under; None: nobody knows yet."""
        return None if self._secret.known is None else id_of_key(self._secret.known, ref, key, 0)

    async def store(self, invocation: Invocation, key: str, queue: str, at: datetime | None) -> Once:
        """Store the call in a queue, to be run from `at` on, unless it is stored already.

        `invocation` has no id yet, nor has its request. Raises BadRequest (422) when the key stands for another
        request, QueueError when it cannot be stored. Its large body is removed when it is not the call's.
        """
        ref = invocation.function
        secret = await self._secret.read()
        first_id = id_of_key(secret, ref, key, 0)
        looked = False
        try:
            generation, once = await asyncio.gather(
                self._chains.generation(first_id),
                self._known_to_0_1(identified(invocation, id_of_key_in_0_1(ref, key))),
            )
            noted = generation
            while once is None:
                mine = identified(invocation, id_of_key(secret, ref, key, generation))
                # Most keys are new: whether this one is, the write itself tells.
                stored = await self._records.read(mine.call_id, surely=True) if looked else None
                if isinstance(stored, AgedOut):
                    # Records age in the order of their ends: a later generation's may be there.
                    if await self._records.read(id_of_key(secret, ref, key, generation + 1)) is not None:
                        generation += 1
                        continue
                    once = await self._waits_without_record(mine)
                elif stored is not None and not await self._unstored.was_never(stored):
                    if stored.record.status in _BEGINS_ANEW:
                        generation += 1
                        continue
                    once = await self._as_recorded(stored, mine, at)
                if once is not None:
                    break
                mine = await self._large.under_own_id(mine)
                invocation = invocation._replace(body=mine.body)
                if generation > noted:
                    await self._chains.begin_generation(first_id, generation)
                    noted = generation
                once = await self._begin(mine, queue, at, 0 if stored is None else stored.sequence)
                looked = True
        except BadRequest:
            await self._large.forget(invocation.body)
            raise
        if once.known:
            await self._large.forget(invocation.body)  # the first sending brought the same one
        return once

    async def _begin(self, mine: Invocation, queue: str, at: datetime | None, replaces: int) -> Once | None:
        """Write the record of a call that is none yet, and store it; None when another record was faster."""
        owes = _owe(mine)
        try:
            await self._records.put(first_record(mine, queue, at), b"", replaces)
        except Conflict:
            OWED.strike(owes)
            return None
        except BaseException as error:
            OWED.settle(owes, error)
            raise
        return await self._publish(mine, queue, at, owes, mine.accepted_at_ns)

    async def _known_to_0_1(self, old: Invocation) -> Once | None:
        """The call that version 0.1 accepted with a key; None without one that counts. Raises BadRequest (422)."""
        stored = await self._records.read(old.call_id)
        if not isinstance(stored, Stored) or stored.record.status in _BEGINS_ANEW:
            return None
        if _KEYED_BY_0_1.fullmatch(original_of(stored.record.message_id)) is None:
            return None
        _check_same(stored.record.message_id, old)
        return _known(old.call_id, stored.record.accepted_at_ns) if await self._is_stored(stored) else None

    async def _as_recorded(self, stored: Stored, mine: Invocation, at: datetime | None) -> Once:
        """The call that has the record, which must be the same request. Raises BadRequest (422)."""
        found = stored.record
        _check_same(found.message_id, mine)
        if await self._is_stored(stored):
            return _known(mine.call_id, found.accepted_at_ns)
        mine = await self._large.under_own_id(mine)
        # Who wrote the record has not stored the call, or does so this moment. Of us two one stores it, with its own
        # instant, where the record says that it is, whatever the function's annotation says by now.
        return await self._publish(mine, found.queue, at, _owe(mine), found.accepted_at_ns)

    async def _is_stored(self, stored: Stored) -> bool:
        """Whether the call of a record is in its queue, or was."""
        call_id = stored.record.call_id
        if stored.record.status not in NOT_BEGUN or await waiting.find(self._connection, call_id) is not None:
            return True
        # It may have been run meanwhile.
        again = await self._records.read(call_id, surely=True)
        return isinstance(again, Stored) and again.record.status not in NOT_BEGUN

    async def _waits_without_record(self, mine: Invocation) -> Once | None:
        """A call that waits for longer than records are kept; None: there is none. Raises BadRequest (422)."""
        standing = await waiting.find(self._connection, mine.call_id)
        if standing is None:
            return None
        _check_same(standing.invocation.message_id, mine)
        return _known(mine.call_id, standing.invocation.accepted_at_ns)

    async def _publish(self, mine: Invocation, queue: str, at: datetime | None, owes: int, first_at_ns: int) -> Once:
        """Store the call; `first_at_ns` is when it was accepted, should another one have stored it."""
        publication = to_publish(queue, mine) if at is None else to_publish_later(queue, mine, at)
        try:
            first = await self._publisher.confirm_once(*publication)
        except BaseException as error:
            OWED.settle(owes, error)
            raise
        if not first:
            # Of those that came at once another one was faster; or it was run meanwhile, and has no record yet; or it
            # was we, and the confirmation was lost. What was stored has the instant of who stored it.
            OWED.doubt(owes)
            return _known(mine.call_id, first_at_ns)
        return Once(mine.call_id, mine.accepted_at_ns, known=False, owes=owes)


def _owe(mine: Invocation) -> int:
    return OWED.note(owed.stored_with_key(mine.call_id, mine.message_id, mine.accepted_at_ns))


def _check_same(message_id: str, mine: Invocation) -> None:
    """Raise BadRequest (422) unless the call that stands under a key is the same request."""
    if original_of(message_id) != mine.message_id:
        raise BadRequest(422, "Idempotency-Key was used for another request: a key stands for one body and target.")


def _known(call_id: CallId, accepted_at_ns: int) -> Once:
    telemetry.DUPLICATES_AVOIDED.labels("idempotency_key").inc()
    return Once(call_id, accepted_at_ns, known=True)
