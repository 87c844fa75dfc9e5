"""Which calls belong together: those that carry one `X-Call-Id`, and those that one idempotency key has stood for.

    holdfast.chain.calls.<X-Call-Id>.<call id>    a call that carries the id and did not get it as its own
    holdfast.chain.key.<first id of the key>      how many calls of the key ended otherwise than well before the latest

A link is written before its call is published, and in the order of these writes the calls of a chain are told. It
outlives the record of a call that ends within LINK_OUTLIVES_S; of a delayed call the delay comes on top. What a call
says of itself is in its record: a link without one leads nowhere, as when a gateway died between the two.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from nats.js.api import StorageType, StreamConfig

from holdfast.errors import QueueError, QueueRefused
from holdfast.invocation import CallId, Invocation
from holdfast.queue.api import ask, delete, last_by_replica
from holdfast.queue.connection import Connection
from holdfast.queue.publisher import Publisher
from holdfast.queue.waiting import last_of_batch_has_more, messages_from

STREAM = "HOLDFAST_chains"
SUBJECT_PREFIX = "holdfast.chain."
LINK_OUTLIVES_S = 24 * 3600.0
ROOM_SHARE = 4
LINK_BYTES = 256
# Links may take this part of the room that records have: a link is shorter than a third of the shortest record.


def stream_config(*, replicas: int, ttl_s: float, max_bytes: int) -> StreamConfig:
    """How the stream is made, by what the records are kept for. When it is full the oldest links go first."""
    return StreamConfig(
        name=STREAM,
        description="Which calls share an X-Call-Id, and how often a key began anew",
        subjects=[f"{SUBJECT_PREFIX}>"],
        storage=StorageType.FILE,
        max_msgs_per_subject=1,
        max_age=ttl_s + LINK_OUTLIVES_S,
        # Not a number of bytes: JetStream sets those aside, and may have none to spare where it had enough before.
        max_msgs=max_bytes // ROOM_SHARE // LINK_BYTES,
        num_replicas=replicas,
        allow_direct=True,
        allow_msg_ttl=True,
        duplicate_window=120.0,
    )


class Chains:
    """The links of all chains, over one connection."""

    def __init__(self, connection: Connection, publisher: Publisher, records_ttl_s: float) -> None:
        self._connection = connection
        self._publisher = publisher
        self._life_s = records_ttl_s + LINK_OUTLIVES_S

    async def link(self, invocation: Invocation, delay_s: float) -> int:
        """Note a call under the `X-Call-Id` that it carries, before it is published; gives the link's sequence.

        Raises QueueError.
        """
        life = "" if not delay_s else f"Nats-TTL: {int(self._life_s + delay_s) + 1}s\r\n"
        headers = f"NATS/1.0\r\nNats-Msg-Id: link/{invocation.call_id}\r\n{life}\r\n"
        return await self._publisher.confirm(
            f"{_links_of(invocation.common_id)}{invocation.call_id}".encode(), headers.encode(), b""
        )

    async def unlink(self, sequence: int) -> None:
        """Take a link back whose call was refused. Raises QueueError."""
        await delete(self._connection, STREAM, sequence)

    async def later(self, common_id: CallId, most: int) -> tuple[list[CallId], int]:
        """The calls that are linked under an id, the first ones in their order, and how many more there are.

        Any replica answers, which may not know the newest yet. Raises QueueUnavailable.
        """
        found = await messages_from(self._connection, STREAM, 1, f"{_links_of(common_id)}*", most)
        return [_call_of(one.subject) for one in found], last_of_batch_has_more(found)

    async def each(self, common_id: CallId) -> AsyncIterator[CallId]:
        """All calls that are linked under an id, in their order, as the stream's leader has them. Raises QueueError."""
        after = 0
        while True:
            try:
                answer = await ask(
                    self._connection,
                    f"STREAM.MSG.GET.{STREAM}",
                    seq=after + 1,
                    next_by_subj=f"{_links_of(common_id)}*",
                )
            except QueueRefused as error:
                if error.code != 404:
                    raise
                return
            after = int(answer["message"]["seq"])
            yield _call_of(answer["message"]["subject"])

    async def generation(self, first_id: CallId) -> int:
        """Which of a key's calls was the latest to begin, as far as this replica knows: 0 for the first.

        Raises QueueError.
        """
        found = await last_by_replica(self._connection, STREAM, _key(first_id))
        if found is None:
            return 0
        try:
            return max(0, int(json.loads(found.payload)["generation"]))
        except (ValueError, KeyError, TypeError) as error:
            raise QueueError(f"what is noted under {_key(first_id)} cannot be read: {error!r}") from error

    async def begin_generation(self, first_id: CallId, generation: int) -> None:
        """Note that a key begins anew. It may be noted twice, and for nothing. Raises QueueError."""
        headers = f"NATS/1.0\r\nNats-Msg-Id: key/{first_id}/{generation}\r\n\r\n".encode()
        await self._publisher.confirm(_key(first_id).encode(), headers, b'{"generation":%d}' % generation)


def _links_of(common_id: CallId) -> str:
    return f"{SUBJECT_PREFIX}calls.{common_id}."


def _key(first_id: CallId) -> str:
    return f"{SUBJECT_PREFIX}key.{first_id}"


def _call_of(subject: str) -> CallId:
    return CallId(subject.rpartition(".")[2])
