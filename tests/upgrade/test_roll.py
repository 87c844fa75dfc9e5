"""During a roll parts of two neighbouring versions work on one queue: nothing is lost, whoever takes what.

A call is accepted by either gateway, run by either worker, and asked after and cancelled at either gateway, while the
parts of the version before leave one after the other.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast import __version__
from tests.support import parts
from tests.support.ledger import Fault, read_journal
from tests.support.nats import NatsServer, free_port, nats_server
from tests.support.old_versions import OldVersion
from tests.support.receiver import Receiver, receiver
from tests.support.scene import ENVIRON, JOURNAL, settled
from tests.support.traffic import KINDS, Kind, Traffic

pytestmark = pytest.mark.timeout(300)

MIXED = (*KINDS, Kind("chained", 0.1, {"X-Callback-Url": "/async-function/second"}, callback=False))
NARROW = (Kind("narrow", 1, {"X-Takes": "0.02"}),)
LARGE = b"0123456789abcdef" * 64 * 1024 * 3
# 3 MiB: more than travels inside a message.
STEP = 60
# Calls between two steps of the roll.
PAUSE_S = 0.05
SETTLE_S = 120.0
OLD, NEW = "old gateway", "new gateway"


class Roll:
    """Parts of two versions on one NATS server. Get it from `rolling()`."""

    def __init__(self, folder: Path, nats: NatsServer, callbacks: Receiver, tasks: asyncio.TaskGroup) -> None:
        self.folder = folder
        self.callbacks = callbacks
        self.client = httpx.AsyncClient(trust_env=False, timeout=60)
        self.gateways: dict[str, str] = {}
        """The URLs of those that callers are sent to, by name."""
        self._nats = nats
        self._tasks = tasks
        self._faults: list[Fault] = []
        self._turn = itertools.count()
        self._provider_port = free_port()
        self._parts: dict[str, tuple[parts.Part, AsyncExitStack]] = {}
        self._traffics: dict[Traffic, asyncio.Task[None]] = {}

    # ---- parts

    async def _start(self, name: str, part: AbstractAsyncContextManager[parts.Part]) -> str:
        """Start a part; gives its URL."""
        stack = AsyncExitStack()
        running = await stack.enter_async_context(part)
        self._parts[name] = running, stack
        return running.url

    async def stop(self, name: str) -> None:
        """Stop a part in order, as `kill` without -9 does."""
        began = time.monotonic()
        self.gateways.pop(name, None)
        running, stack = self._parts.pop(name)
        await stack.aclose()
        assert running.process.returncode == 0, running.log
        self._faults.append(Fault(f"{name} stopped", began, time.monotonic()))

    async def provider(self, name: str, environ: dict[str, str]) -> None:
        """All providers have one address and one folder, so one of them follows the other."""
        settings = {
            "provider_port": str(self._provider_port),
            "provider_data": str(self.folder / "provider"),
            "stack": str(self.folder / "stack.yml"),
            **environ,
        }
        await self._start(name, parts.part("provider", settings))

    async def gateway(self, name: str, environ: dict[str, str]) -> str:
        self.gateways[name] = await self._start(
            name, parts.gateway(self._nats.url, self._provider_url, **{**ENVIRON, **environ})
        )
        return self.gateways[name]

    async def worker(self, name: str, environ: dict[str, str], gateway_url: str) -> None:
        settings = {**ENVIRON, **environ, "gateway_url": gateway_url}
        await self._start(name, parts.worker(self._nats.url, self._provider_url, **settings))

    @property
    def _provider_url(self) -> str:
        return f"http://127.0.0.1:{self._provider_port}"

    async def end(self) -> None:
        """Send nothing more, whatever has failed, and stop what still runs."""
        for sending in self._traffics.values():
            sending.cancel()
        for _, stack in reversed(self._parts.values()):
            await stack.aclose()
        await self.client.aclose()

    # ---- calls

    def _next_url(self) -> str:
        """The gateways in turn."""
        urls = list(self.gateways.values())
        return urls[next(self._turn) % len(urls)]

    def begin(self, function: str, kinds: tuple[Kind, ...], connections: int) -> Traffic:
        """Send calls until `finish`."""
        traffic = Traffic(self._next_url, function, self.callbacks.url, seed=len(self._traffics), kinds=kinds)
        sending = traffic.send(1_000_000, connections, pause_s=PAUSE_S)
        self._traffics[traffic] = self._tasks.create_task(sending)
        return traffic

    async def finish(self, traffic: Traffic) -> None:
        """Send no more, wait for all ends, and see that each call has one."""
        traffic.no_more = True
        await self._traffics[traffic]
        ids = traffic.sent.ids
        drawn = await settled(
            traffic,
            self.callbacks,
            lambda: [run for run in read_journal(self.folder / "journal") if run.call_id in ids],
            self._faults,
            SETTLE_S,
        )
        wrong = [*drawn.lost, *drawn.unfinished, *drawn.untold, *drawn.unexplained]
        assert (wrong, drawn.ended) == ([], drawn.accepted), str(drawn)

    async def more(self, traffic: Traffic) -> None:
        """Return when so many more calls were accepted as lie between two steps."""
        await traffic.accepted(len(traffic.sent.accepted) + STEP, timeout_s=SETTLE_S)

    async def begun(self, journal: str, ids: set[str]) -> None:
        """Return once each of these calls was begun by the function that keeps this journal."""
        async with asyncio.timeout(SETTLE_S):
            while missing := ids - {run.call_id for run in read_journal(self.folder / journal)}:
                await asyncio.sleep(0.05)
        assert not missing

    async def ask(self, method: str, gateway: str, path: str, **document: Any) -> httpx.Response:
        content = json.dumps(document) if document else b""
        answer = await self.client.request(method, self.gateways[gateway] + path, content=content)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer

    async def accept(self, gateway: str, function: str, body: bytes = b"x", **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.post(
            f"{self.gateways[gateway]}/async-function/{function}", content=body, headers=named
        )
        assert answer.status_code == 202, answer.text
        return str(answer.headers["X-Call-Id"])

    async def ended(self, gateway: str, call_id: str) -> str:
        """How a call ended, as a gateway says."""
        record: dict[str, Any] = {}
        for _ in range(3):
            record = (await self.ask("GET", gateway, f"/async-function/{call_id}?wait=30s")).json()
            if record["finished_at"] is not None:
                return str(record["status"])
        raise AssertionError(f"has not ended: {record}")


@asynccontextmanager
async def rolling(folder: Path) -> AsyncIterator[Roll]:
    """NATS and a receiver, and no part yet."""
    functions = {"journal": ("journal", ""), "second": ("second", ""), "narrow": ("journal", "2")}
    (folder / "stack.yml").write_text(
        "version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n"
        + "".join(
            f"  {name}:\n    lang: python3-http\n    handler: {JOURNAL}\n"
            f"    environment:\n      journal: {folder / journal}\n"
            + (f"    annotations:\n      com.openfaas.max_inflight: '{limit}'\n" if limit else "")
            for name, (journal, limit) in functions.items()
        )
    )
    async with nats_server() as nats, receiver() as callbacks, asyncio.TaskGroup() as tasks:
        roll = Roll(folder, nats, callbacks, tasks)
        try:
            yield roll
        finally:
            await roll.end()


async def crosswise(roll: Roll, here: str, there: str) -> None:
    """What was accepted at one gateway is told, fetched, cancelled and replayed at another one."""
    key = here.replace(" ", "-")
    plain = await roll.accept(here, "journal", b"plain")
    own = await roll.accept(here, "journal", b"own", X_Call_Id=f"from-{key}")
    keyed = await roll.accept(here, "journal", b"once", Idempotency_Key=key)
    large = await roll.accept(here, "journal", LARGE)
    far = await roll.accept(here, "journal", X_Delay="1h")
    failing = await roll.accept(here, "journal", X_Plan="422")

    for call_id in (plain, own, keyed, large):
        assert await roll.ended(there, call_id) == "succeeded"
    assert (await roll.ask("GET", there, f"/async-function/{large}/result")).content == LARGE
    await roll.ask("DELETE", there, f"/async-function/{far}")
    assert await roll.ended(here, far) == "cancelled"
    assert await roll.ended(there, failing) == "failed"
    replayed = await roll.ask("POST", there, "/system/dead-letters/replay", id=failing)
    assert [letter["id"] for letter in replayed.json()["replayed"]] == [failing]
    assert await roll.ended(here, failing) == "failed"
    letters = (await roll.ask("GET", there, "/system/dead-letters?limit=500")).json()["dead_letters"]
    assert failing in {letter["id"] for letter in letters}
    # What a key stands for is known to the version that accepted its call, and to later ones.
    for gateway in {here, NEW}:
        assert await roll.accept(gateway, "journal", b"once", Idempotency_Key=key) == keyed
    assert [run.call_id for run in read_journal(roll.folder / "journal")].count(keyed) == 1


async def the_work_goes_on(roll: Roll, traffics: list[Traffic]) -> None:
    for traffic in traffics:
        await roll.finish(traffic)
    chained = {call_id for call_id, asked in traffics[0].sent.accepted.items() if asked.kind == "chained"}
    assert chained
    await roll.begun("second", chained)


@pytest.mark.parametrize("first", ["provider", "workers"])
async def test_old_and_new_parts_share_a_queue_and_the_old_ones_leave_under_load(
    tmp_path: Path, old: OldVersion, first: str
) -> None:
    """`first`: what is replaced first. Providers have one address, so there is one at a time."""
    async with rolling(tmp_path) as roll:
        await roll.provider("provider", {} if first == "provider" else old.environ)
        port = str(free_port())
        new_url = f"http://127.0.0.1:{port}"
        old_url = await roll.gateway(OLD, old.environ)
        # Once it calls back by way of the other version's gateway, which is not there yet.
        await roll.worker("old worker", old.environ, old_url if first == "provider" else new_url)
        traffics = [roll.begin("journal", MIXED, 6), roll.begin("narrow", NARROW, 1)]
        await roll.more(traffics[0])
        await roll.gateway(NEW, {"gateway_port": port})
        await roll.worker("new worker", {}, new_url)
        for gateway, name in ((OLD, old.name), (NEW, __version__)):
            assert (await roll.ask("GET", gateway, "/system/info")).headers["X-Served-By"] == f"holdfast/{name}"
        told = len(roll.callbacks.callbacks)
        await crosswise(roll, OLD, NEW)
        await crosswise(roll, NEW, OLD)
        await roll.more(traffics[0])
        workers = {callback["User-Agent"] for callback in roll.callbacks.callbacks[told:]}
        assert workers == {f"queue-worker/{old.name}", f"queue-worker/{__version__}"}

        await roll.stop("old worker")
        await roll.more(traffics[0])
        await roll.stop(OLD)
        await roll.more(traffics[0])
        if first == "workers":
            await roll.stop("provider")
            await roll.provider("new provider", {})
            await roll.more(traffics[0])
        await the_work_goes_on(roll, traffics)
