"""Where a function can be reached: the provider's answer, remembered for a short while.

The gateway asks before it accepts or relays a call, the worker before it runs one. Both go on with what they know
when the provider is away: a function that existed a moment ago is still accepted, and a worker waits for its replica.

Our provider names each ready replica in the additional field `endpoints` of a FunctionStatus, and holds the answer for
`?wait=` until one is ready. A provider without that field (faas-netes, faasd) is called through its own
`/function/<name>.<namespace>` route instead; a function that it has at zero is scaled to one, as OpenFaaS's gateway
does. How a FunctionStatus is read is description.py's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import quote

import structlog

from holdfast import description
from holdfast.errors import ConnectFailed, HoldfastError, PeerError, WrongPeer
from holdfast.function import FunctionRef
from holdfast.host import host_id
from holdfast.http1.client import Answer, ClientPool, Origin
from holdfast.http1.message import request_message
from holdfast.unexpected import Work, alone, guarded
from holdfast.unreachable import Unreachable

FRESH_S = 1.0
# A known function is asked for again after this long, in the background: what is deployed or removed shows within two
# seconds.
FORGET_S = 1.0
# So long after that its replicas are forgotten, unless it was asked for: they may have ended meanwhile, and their ports
# may be another function's. The provider ends a replica only when it cannot be known any more. The rest is not relied
# upon before the provider was asked: the function may have been removed, or have another queue.
GATHER_S = 0.02
MOST_TOGETHER = 100
# What is to be asked for again within this time is asked for in one question, of so many functions at most: one
# question for each would be a thousand in a second when a thousand functions are called.
UNKNOWN_S = 0.5
# An unknown name is not asked for again within this time, so that a flood of wrong names costs the provider little.
PATIENCE_S = 0.5
# What was known of a function is gone on with when the provider takes longer than that to say what it is now.
MOST_UNKNOWN = 4096
LOOKUP_TIMEOUT_S = 5.0
WAIT_STEP_S = 10.0
# One long-poll of the provider; a new one follows until the caller's own limit has passed.
SAY_AFTER_S = 0.5
# A wait for a replica that takes longer is told of: a function that starts, or is replaced, usually takes less.
PROVIDER_RETRY_S = 0.1
FOREIGN_RETRY_S = 0.5
# A provider that is not ours tells nobody when a replica is ready: it is asked again.
WAKE_AGAIN_S = 10.0
# A function is asked to be started once in this time, however many calls wait for it.
MOST_STATUS_BYTES = 4 * 1024 * 1024

log = structlog.get_logger()


class ProviderUnavailable(HoldfastError):
    """The provider could not be asked, and nothing is known about the function."""


@dataclass(slots=True)
class Entry:
    """What is known of a function that exists.

    `origins` are its ready replicas, or the provider itself, in which case `prefix` goes before the function's path.
    """

    ref: FunctionRef
    origins: tuple[Origin, ...]
    prefix: bytes
    annotations: Mapping[str, str]
    """As deployed; replaced, never changed."""
    asleep: bool
    """Whether it has no replica and its provider starts one only when asked to scale."""
    fresh_until: float
    """Loop time after which the entry is asked for again; it stays usable meanwhile."""
    trouble: str = ""
    """Why it has no origins, as an operator should read it."""
    out_of_reach: bool = False
    """Whether replicas are ready that cannot be called from this host: there is nothing to wait for."""
    named: tuple[Origin, ...] = ()
    """The origins that its provider named last, those that rest among them."""
    rests_until: float = 0.0
    """Loop time from which one of the named origins may be tried again; 0: none rests."""
    turn: int = 0

    def pick(self) -> Origin | None:
        """The next replica in turn; None when none is ready."""
        if not self.origins:
            return None
        self.turn += 1
        return self.origins[self.turn % len(self.origins)]


class Directory:
    """The functions of one provider. Made by `directory()`."""

    def __init__(
        self, pool: ClientPool, provider: Origin, authorization: bytes | None, tasks: asyncio.TaskGroup, host: str
    ) -> None:
        self.provider_id = ""
        """Which provider it is, as it said last; empty: it has no id, or has said nothing yet."""
        self._host = host
        self._unreachable = Unreachable()
        self._pool = pool
        self._provider = provider
        self._headers = [(b"Host", provider.netloc), (b"Accept", b"application/json")]
        if authorization:
            self._headers.append((b"Authorization", authorization))
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._known: dict[FunctionRef, Entry] = {}
        self._unknown: dict[FunctionRef, float] = {}
        self._lookups: dict[FunctionRef, asyncio.Task[Entry | ProviderUnavailable | None]] = {}
        self._polls: dict[FunctionRef, asyncio.Task[Entry | ProviderUnavailable | None]] = {}
        self._woken: dict[FunctionRef, float] = {}
        self._stale: set[FunctionRef] = set()
        """Called and to be asked for again in a moment."""
        self._renewing: set[FunctionRef] = set()
        """These, and those that are being asked for."""
        self._gathering: asyncio.TimerHandle | None = None
        self._renewals: set[asyncio.Task[None]] = set()

    def known(self, ref: FunctionRef) -> Entry | None:
        """The entry without waiting, for the hot path; None when it has to be asked for with `find`.

        An entry past its freshness is still given, at last without replicas, and asked for again in the background.
        """
        entry = self._known.get(ref)
        if entry is not None and (stale_s := self._loop.time() - entry.fresh_until) > 0:
            if stale_s > FORGET_S and not entry.prefix:
                entry.origins = ()
            if ref not in self._lookups and ref not in self._renewing:
                self._renew(entry)
        return entry

    def recent(self, ref: FunctionRef) -> Entry | None:
        """As `known`; None as well when nobody asked for the function lately, so that `find` has to."""
        entry = self._known.get(ref)
        if entry is None or (stale_s := self._loop.time() - entry.fresh_until) <= 0:
            return entry
        self.known(ref)
        return entry if stale_s <= FORGET_S else None

    async def find(self, ref: FunctionRef) -> Entry | None:
        """The entry, asking the provider if need be; None when there is no such function.

        What was known long ago is given when the provider does not answer within PATIENCE_S. Raises ProviderUnavailable
        when nothing is known and it does not answer within LOOKUP_TIMEOUT_S.
        """
        entry = self.recent(ref)
        if entry is not None:
            return entry
        if self._unknown.get(ref, 0.0) > self._loop.time():
            return None
        looking = self._look_up(ref)
        before = self._known.get(ref)
        if before is not None and not (await asyncio.wait((looking,), timeout=PATIENCE_S))[0]:
            return before
        # Shielded: the look-up serves everybody who asks for the same function, whoever gives up first.
        found = await asyncio.shield(looking)
        if isinstance(found, ProviderUnavailable):
            raise found
        return found

    async def ready(self, ref: FunctionRef, wait_s: float) -> Entry | None:
        """The entry once a replica is ready; None when there is no such function.

        After `wait_s` the entry is given as it is, perhaps without origins; at once when no wait can bring any. A wait
        that is more than a moment is logged. Raises ProviderUnavailable when the provider was away all that time.
        """
        entry = self._known.get(ref)
        # What is stale may name replicas that went together with the one that was just found gone.
        if entry is not None and entry.origins and entry.fresh_until >= self._loop.time():
            return entry
        deadline = self._loop.time() + wait_s
        while True:
            left = deadline - self._loop.time()
            try:
                entry = await self._look(ref, max(0.0, min(left, WAIT_STEP_S)))
            except ProviderUnavailable as error:
                if left <= PROVIDER_RETRY_S:
                    raise
                before = self._known.get(ref)
                self._unreachable.say(ref, before.named if before else (), str(error), self._loop.time())
                # The provider is starting or restarting; there is no event to wait for on a port that refuses.
                await asyncio.sleep(PROVIDER_RETRY_S)
                continue
            now = self._loop.time()
            left = deadline - now
            if entry is None or entry.origins or entry.out_of_reach or left <= 0:
                return entry
            if entry.rests_until > now:
                self._unreachable.say(ref, entry.named, entry.trouble, now)
                await asyncio.sleep(min(left, entry.rests_until - now))
            elif entry.prefix:
                if entry.asleep:
                    await self._wake(ref)
                await asyncio.sleep(min(left, FOREIGN_RETRY_S))

    async def _look(self, ref: FunctionRef, wait_s: float) -> Entry | None:
        """Ask once for all who wait: our provider holds its answer until a replica is ready."""
        entry = self._known.get(ref)
        if entry is None or entry.prefix or not wait_s:
            found = await asyncio.shield(self._look_up(ref))
        else:
            task = self._poll(ref)
            # Waited for, not awaited: it serves the others when one of them gives up.
            if not (await asyncio.wait([task], timeout=min(wait_s, SAY_AFTER_S)))[0] and wait_s > SAY_AFTER_S:
                if self._unreachable.is_due(ref, self._loop.time()):
                    await asyncio.shield(self._look_up(ref))  # which says why none is ready
                    self._unreachable.say(ref, entry.named, entry.trouble, self._loop.time())
                await asyncio.wait([task], timeout=wait_s - SAY_AFTER_S)
            # Without an answer nothing is known to be ready: what was is why it is asked for.
            found = task.result() if task.done() else replace(entry, origins=())
        if isinstance(found, ProviderUnavailable):
            raise found
        return found

    async def _wake(self, ref: FunctionRef) -> None:
        """Have a provider that is not ours start a function; what comes of it shows when it is asked again."""
        now = self._loop.time()
        if self._woken.get(ref, 0.0) > now:
            return
        self._woken[ref] = now + WAKE_AGAIN_S
        body = json.dumps({"serviceName": ref.name, "namespace": ref.namespace, "replicas": 1}).encode()
        target = f"/system/scale-function/{quote(ref.name, safe='')}?namespace={quote(ref.namespace, safe='')}"
        headers = [*self._headers, (b"Content-Type", b"application/json")]
        request = request_message(b"POST", target.encode(), headers, body)
        try:
            await self._pool.fetch(
                self._provider, request, timeout_s=LOOKUP_TIMEOUT_S, max_body_bytes=MOST_STATUS_BYTES
            )
        except PeerError as error:
            log.warning("function at zero not started", function=str(ref), error=str(error))

    async def identify(self) -> bool:
        """Learn the provider's id without asking for a function; whether it answered. Calls teach it too."""
        try:
            answer = await self._get("/system/info", 0.0)
        except ProviderUnavailable:
            return False
        # One that does not know the route, or says something else there, has no id.
        with suppress(ProviderUnavailable, KeyError, TypeError, AttributeError):
            self.provider_id = description.provider_id(_read_json(answer)["provider"], "id")
        return True

    def lost(self, ref: FunctionRef, origin: Origin, error: PeerError) -> None:
        """A replica could not be reached: it is not picked again before the provider names it again.

        One that no connection leads to, or behind whose address another program is, rests a little before that.
        """
        if isinstance(error, ConnectFailed | WrongPeer):
            is_news = self._unreachable.failed(origin, str(error), self._loop.time())
            if is_news and isinstance(error, WrongPeer):
                log.warning("another program has a replica's address", function=str(ref), reason=str(error))
        entry = self._known.get(ref)
        if entry is not None and not entry.prefix:
            entry.origins = tuple(known for known in entry.origins if known != origin)
            entry.fresh_until = 0.0

    def trouble(self, entry: Entry) -> str:
        """Why nothing of a function can be called, as an operator should read it; empty when that is not known."""
        return entry.trouble or self._unreachable.why(entry.named)

    def forget(self) -> None:
        """Ask again for everything, as after a deployment."""
        self._known.clear()
        self._unknown.clear()

    def end_lookups(self) -> None:
        """Cancel the look-ups under way."""
        if self._gathering is not None:
            self._gathering.cancel()
        for task in (*self._lookups.values(), *self._polls.values(), *self._renewals):
            task.cancel()

    # ---- asking for many

    def _renew(self, entry: Entry) -> None:
        """Ask for a function again, together with others."""
        if entry.prefix:
            self._look_up(entry.ref)  # its provider is asked for one at a time
            return
        if self._gathering is None:
            self._gathering = self._loop.call_later(GATHER_S, self._begin_renewal)
        self._stale.add(entry.ref)
        self._renewing.add(entry.ref)

    @guarded(Work.DIRECTORY)
    def _begin_renewal(self) -> None:
        self._gathering = None
        by_namespace: dict[str, list[FunctionRef]] = {}
        for ref in self._stale:
            by_namespace.setdefault(ref.namespace, []).append(ref)
        self._stale.clear()
        for refs in by_namespace.values():
            for first in range(0, len(refs), MOST_TOGETHER):
                renew = partial(self._renew_all, refs[first : first + MOST_TOGETHER])
                task = self._tasks.create_task(alone(Work.DIRECTORY, renew, lambda _: None), name="renew")
                self._renewals.add(task)
                task.add_done_callback(self._renewals.discard)

    async def _renew_all(self, refs: list[FunctionRef]) -> None:
        """Ask once for functions of one namespace; those that are not named in the answer exist no more."""
        names = "".join(f"&name={quote(ref.name, safe='')}" for ref in refs)
        try:
            answer = await self._get(f"/system/functions?namespace={quote(refs[0].namespace, safe='')}{names}", 0.0)
            found = {status["name"]: status for status in _read_json(answer)}
            for ref in refs:
                if ref.name in found:
                    self._remember(ref, found[ref.name])
                else:
                    self._forget(ref)
        except (ProviderUnavailable, KeyError, TypeError) as error:
            log.debug("functions asked for one by one", functions=len(refs), error=str(error))
            for ref in refs:
                self._look_up(ref)  # which goes on with what is known when the provider is away
        finally:
            self._renewing.difference_update(refs)

    # ---- asking for one

    def _look_up(self, ref: FunctionRef) -> asyncio.Task[Entry | ProviderUnavailable | None]:
        """The look-up under way for a function, or a new one; one at a time for each function."""
        task = self._lookups.get(ref)
        if task is None:
            looking = alone(Work.DIRECTORY, partial(self._refresh, ref), _unusable, function=str(ref))
            task = self._lookups[ref] = self._tasks.create_task(looking, name=f"look up {ref}")
            task.add_done_callback(lambda _: self._lookups.pop(ref, None))
        return task

    def _poll(self, ref: FunctionRef) -> asyncio.Task[Entry | ProviderUnavailable | None]:
        """The long-poll under way for a function, or a new one; one at a time for each function."""
        task = self._polls.get(ref)
        if task is None:
            waiting = alone(Work.DIRECTORY, partial(self._held, ref), _unusable, function=str(ref))
            task = self._polls[ref] = self._tasks.create_task(waiting, name=f"wait for {ref}")
            task.add_done_callback(lambda _: self._polls.pop(ref, None))
        return task

    async def _held(self, ref: FunctionRef) -> Entry | ProviderUnavailable | None:
        """One long-poll; as `_refresh`, it gives its failure."""
        try:
            return await self._ask(ref, WAIT_STEP_S)
        except ProviderUnavailable as error:
            return error

    async def _refresh(self, ref: FunctionRef) -> Entry | ProviderUnavailable | None:
        """One look-up. Gives its failure instead of raising it: nobody may be waiting, and the group goes on."""
        try:
            return await self._ask(ref, 0.0)
        except ProviderUnavailable as error:
            entry = self._known.get(ref)
            if entry is None:
                return error
            log.warning("provider away, going on with what is known", function=str(ref), error=str(error))
            entry.fresh_until = self._loop.time() + FRESH_S
            return entry

    async def _ask(self, ref: FunctionRef, wait_s: float) -> Entry | None:
        """Ask the provider once, remember and give its answer."""
        wait = f"&wait={wait_s:.3f}s" if wait_s else ""
        target = f"/system/function/{quote(ref.name, safe='')}?namespace={quote(ref.namespace, safe='')}{wait}"
        answer = await self._get(target, wait_s)
        if answer.status == 404:
            self._forget(ref)
            return None
        return self._remember(ref, _read_json(answer))

    async def _get(self, target: str, wait_s: float) -> Answer:
        request = request_message(b"GET", target.encode(), self._headers, b"")
        try:
            return await self._pool.fetch(
                self._provider, request, timeout_s=wait_s + LOOKUP_TIMEOUT_S, max_body_bytes=MOST_STATUS_BYTES
            )
        except PeerError as error:
            raise ProviderUnavailable(f"the provider cannot be asked {target[:200]}: {error}") from error

    def _forget(self, ref: FunctionRef) -> None:
        """It does not exist."""
        self._known.pop(ref, None)
        if len(self._unknown) >= MOST_UNKNOWN:
            self._unknown.clear()
        self._unknown[ref] = self._loop.time() + UNKNOWN_S

    def _remember(self, ref: FunctionRef, status: Any) -> Entry:
        try:
            said = description.read(ref, status, self._provider, self._host)
        except (ValueError, AttributeError, TypeError) as error:
            raise ProviderUnavailable(f"the provider's answer about {ref} is not a FunctionStatus: {error}") from error
        entry, now = self._known.get(ref), self._loop.time()
        if entry is None:
            entry = self._known[ref] = Entry(ref, (), said.prefix, said.annotations, said.asleep, 0.0)
        if entry.annotations != said.annotations:
            # A new object only when they differ: what is derived from them is remembered by identity.
            entry.annotations = said.annotations
        entry.prefix = said.prefix
        entry.asleep = said.asleep
        entry.trouble = said.trouble
        if said.out_of_reach and not entry.out_of_reach:
            log.error("function cannot be called from this host", function=str(ref), reason=said.trouble)
        entry.out_of_reach = said.out_of_reach
        if entry.named != said.origins:
            # Those that are known already stay the same objects: the pool finds their connections faster.
            entry.named = said.origins
        entry.origins = entry.named
        if not entry.prefix:
            resting = [until for one in entry.named if (until := self._unreachable.rests_until(one, now))]
            entry.rests_until = min(resting, default=0.0)
            if resting:
                entry.origins = tuple(one for one in entry.named if not self._unreachable.rests_until(one, now))
        entry.fresh_until = now + FRESH_S
        self.provider_id = said.provider_id
        self._unknown.pop(ref, None)
        return entry


def _unusable(error: Exception) -> ProviderUnavailable:
    """What a look-up gives that failed as nobody expected: the provider's answer is nothing to go by."""
    return ProviderUnavailable(f"the provider's answer cannot be used: {error!r}")


def _read_json(answer: Answer) -> Any:
    if answer.status != 200:
        raise ProviderUnavailable(f"the provider answered {answer.status}")
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise ProviderUnavailable(f"the provider's answer is not JSON: {error}") from error


@asynccontextmanager
async def directory(
    pool: ClientPool, provider_url: str, authorization: bytes | None, named_host: str = ""
) -> AsyncIterator[Directory]:
    """The functions of the provider at `provider_url`, as they can be called from this host.

    `authorization` is the value of the Authorization header that the provider wants, None for none; `named_host` the id
    that the operator gave this host. Leaving it ends the look-ups under way.
    """
    async with asyncio.TaskGroup() as tasks:
        functions = Directory(pool, Origin.parse(provider_url), authorization, tasks, host_id(named_host))
        try:
            yield functions
        finally:
            functions.end_lookups()
