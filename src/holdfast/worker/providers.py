"""Providers whose workers share one queue: whose call is whose, and getting it to a worker of its provider.

Usually there is one, and nothing here costs anything. Two Holdfasts on one NATS server that have the same queue are two
providers with functions of their own. A call is the provider's whose gateway accepted it: that one knew the function,
and two functions of one name may be different code. The call's message says which (`Holdfast-Provider`).

Each worker announces its provider. One that hears of another warns, and serves from then on a lane for its own
provider's calls, where gateways of that provider put them (queue/lanes.py). A call that a worker finds to be another's
it stores there before it acknowledges it. That lane is also how it is remembered that there is such a provider: while
its workers are away its calls wait, for ORPHANED_S, after which others take them as their own.

A call of an older gateway says nothing. Whose provider does not have its function hands it on to the next, and each
does so once: `Holdfast-Refused-By` lists those that do not have it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from holdfast.directory import Directory
from holdfast.invocation import Invocation, is_provider_id
from holdfast.queue import lanes
from holdfast.queue.connection import Connection
from holdfast.queue.message import to_move_to_provider
from holdfast.queue.presence import EVERY_S, Worker
from holdfast.queue.publisher import Publisher
from holdfast.settings import NatsSettings, WorkerSettings
from holdfast.unexpected import Work, forever
from holdfast.worker.insist import insist

LISTEN_S = EVERY_S + 0.2
# After so long every worker that is there has been heard of.
ORPHANED_S = 600.0
# A provider none of whose workers was heard of for so long is taken to have gone for good.
LOOK_AGAIN_S = 5.0

log = structlog.get_logger()


class Providers:
    """The providers of one worker's queue."""

    def __init__(
        self,
        settings: WorkerSettings,
        nats: NatsSettings,
        *,
        connection: Connection,
        publisher: Publisher,
        functions: Directory,
    ) -> None:
        self._queue = settings.queue
        self._url = settings.provider_url
        self._ack_wait_s = settings.ack_wait_s
        self._nats = nats
        self._connection = connection
        self._publisher = publisher
        self._functions = functions
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._known_at: dict[str, float] = {}
        """The others, and when something was heard of each last."""
        self._former: set[str] = set()
        """Those that were this worker's own, at the same address."""
        self._warned: set[str] = set()
        self._looked_at: dict[str, float] = {}
        self._ensured: set[str] = set()

    @property
    def own(self) -> str:
        """This worker's provider; empty: it has no id, or it is not known yet."""
        return self._functions.provider_id

    def is_shared(self) -> bool:
        """Whether the queue has other providers too."""
        return any(not self._is_orphan(provider) for provider in self._known_at)

    def fields(self, *, apart: bool) -> dict[str, Any]:
        """What a worker announces of its provider; `apart`: it serves the lane of its provider's calls."""
        own = self.own
        return {"provider": own, "provider_url": self._url, "apart": own if apart else ""} if own else {}

    def heard(self, worker: Worker) -> str:
        """A worker of this queue has announced itself; gives its provider if that is another one, or empty."""
        provider = str(worker.fields.get("provider") or "")
        if not is_provider_id(provider) or not self.own or provider in (self.own, *self._former):
            return ""
        self._known_at[provider] = self._loop.time()
        if provider not in self._warned:
            self._warned.add(provider)
            log.warning(
                "two providers with functions of their own share a queue: each call goes to a worker of the one whose "
                "gateway accepted it, and com.openfaas.max_inflight does not hold over all workers. To keep them "
                "apart, name another queue for one of them (queue_name, faas_nats_channel)",
                queue=self._queue,
                provider=self.own,
                url=self._url,
                other=provider,
                other_url=str(worker.fields.get("provider_url", "")),
                other_worker=worker.worker_id,
            )
        return provider

    def found(self, provider: str) -> None:
        """There is a lane for the calls of a provider: it was heard of once."""
        if provider != self.own and provider not in self._former:
            self._known_at.setdefault(provider, self._loop.time())

    def serves(self, provider: str) -> bool:
        """Whether this worker takes calls from a provider's lane: from its own, and from those nobody else serves."""
        return bool(self.own) and (provider == self.own or self._is_orphan(provider))

    async def meant(self, invocation: Invocation) -> str:
        """The other provider that a call is for, by what its message says; empty: this one."""
        provider = invocation.provider
        if not self.own:
            await self._functions.identify()
        if not self.own or provider == self.own:
            return ""
        await self._listen()
        if provider not in self._known_at and self._looked_at.get(provider, 0.0) < self._loop.time():
            self._looked_at[provider] = self._loop.time() + LOOK_AGAIN_S
            if lanes.words_of_provider(provider) in await lanes.lanes_of(self._connection, self._queue):
                self.found(provider)
        return "" if self._is_orphan(provider) else provider

    async def next_after(self, invocation: Invocation) -> str:
        """Which provider to ask after this one has no such function; empty: all were asked, or it was the one meant."""
        if not self.own or (invocation.provider == self.own and not invocation.refused_by):
            return ""
        await self._listen()
        left = sorted(one for one in self._known_at if one not in invocation.refused_by and not self._is_orphan(one))
        return left[0] if left else ""

    async def hand_over(self, invocation: Invocation, provider: str) -> None:
        """Store a call in another provider's lane, so that it can be acknowledged here. Raises QueueRefused."""
        if provider not in self._ensured:
            words = lanes.words_of_provider(provider)
            await insist(
                lambda: lanes.ensure_lane(
                    self._nats, self._queue, words, ack_wait_s=self._ack_wait_s, limit=lanes.AS_IT_IS
                )
            )
            self._ensured.add(provider)
        if provider != invocation.provider:
            refused_by = (*invocation.refused_by, self.own)
            invocation = invocation._replace(provider=provider, refused_by=refused_by)
        await insist(lambda: self._publisher.confirm(*to_move_to_provider(self._queue, invocation)))

    async def introduce(self) -> None:
        """Ask again and again, for ever, which provider this worker's is: another one may have taken its address."""
        await forever(Work.DIRECTORY, self._introduce_once)

    async def _introduce_once(self) -> None:
        before = self.own
        answered = await self._functions.identify()
        if before and self.own != before:
            self._former.add(before)
        self._known_at.pop(self.own, None)
        await asyncio.sleep(LOOK_AGAIN_S if answered else EVERY_S)

    async def _listen(self) -> None:
        """Return once it is known who else there is."""
        left = self._since + LISTEN_S - self._loop.time()
        if left > 0:
            await asyncio.sleep(left)

    def _is_orphan(self, provider: str) -> bool:
        """Whether nothing is known of a provider, or has been for long."""
        return self._loop.time() - self._known_at.get(provider, -float("inf")) > ORPHANED_S
