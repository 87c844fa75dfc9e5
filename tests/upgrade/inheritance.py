"""A data folder with a call in every state, and whether all of it goes on under another version.

`leave` is played with the version that makes the folder, `take_over` with the one that opens it, `look_again` after one
more restart. What is asked for is promised of every version: nothing is lost, each call has one end and is called back,
what was kept can be read. How a version answers new calls beyond that is not this test's affair.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.bundles import bundle, image_of
from tests.support.ledger import read_journal
from tests.support.metrics import metrics, metrics_when
from tests.support.nats import free_port
from tests.support.receiver import receiver
from tests.support.scene import ENVIRON, JOURNAL
from tests.support.serving import Serving, serving

QUEUES = ("faas-request", "slow")
LARGE = bytes(range(256)) * 12 * 1024
# 3 MiB: more than travels inside a message.
SECRET = "told only to the function"
KEYED = {"Idempotency-Key": "order-1001"}
WAITING_KEYED = {"Idempotency-Key": "order-1002"}
SETTLE_S = 90.0


@dataclass
class Site:
    """What the calls have to do with beside the server: files, and a receiver that is there at times."""

    folder: Path
    port: int = field(default_factory=free_port)
    """Of the receiver."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/done"

    @property
    def gate(self) -> Path:
        """The functions `gated` and `flaky` fail while this file is not there."""
        return self.folder / "gate"

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def runs(self) -> Counter[str]:
        """How often each call was begun by a function that keeps the journal."""
        return Counter(run.call_id for run in read_journal(self.journal))


@dataclass
class Left:
    """What was left behind: ids of calls by their state, each with what is due of it."""

    site: Site
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The records, as they were shown."""
    results: dict[str, bytes] = field(default_factory=dict)
    """Of calls that have ended, and of those that will."""
    waiting: dict[str, str] = field(default_factory=dict)
    """Calls that have not ended, and how they are to end."""
    told: set[str] = field(default_factory=set)
    """Calls whose receiver has still to be told."""
    once: set[str] = field(default_factory=set)
    """Calls that nobody has begun, and that keep the journal."""
    keyed: str = ""
    waiting_keyed: str = ""
    far: str = ""
    """Delayed for an hour."""
    chain: str = ""
    """Waits, and its callback begins another call."""
    dead_call: str = ""
    dead_callback: str = ""
    accepted: float = 0.0


@contextlib.asynccontextmanager
async def served(site: Site, environ: dict[str, str] | None = None) -> AsyncIterator[Serving]:
    """The server on the site's data folder, with its user's password."""
    stack = site.folder / "stack.yml"
    stack.write_text("version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n  echo:\n    fprocess: cat\n")
    settings = {**ENVIRON, "grace_period": "1s", **(environ or {})}
    options = ("--stack", str(stack), "--queue", "slow=2", "--max-inflight", "8")
    async with serving(site.folder, *options, environ=settings) as server:
        password = (site.folder / "data" / "secrets" / "basic-auth-password").read_text().strip()
        server.client.auth = httpx.BasicAuth("admin", password)
        yield server


# ---- asking


async def shown(server: Serving, path: str) -> Any:
    answer = await server.call(path, method="GET")
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
    return answer.json()


async def record(server: Serving, call_id: str, wait: str = "") -> dict[str, Any]:
    document: dict[str, Any] = await shown(server, f"/async-function/{call_id}{wait and f'?wait={wait}'}")
    return document


async def record_when(server: Serving, call_id: str, **wanted: Any) -> dict[str, Any]:
    """The record once its members, and those of its callback, are as wanted."""
    document: dict[str, Any] = {}
    try:
        async with asyncio.timeout(SETTLE_S):
            while True:
                document = await record(server, call_id)
                of_callback = {f"callback_{name}": value for name, value in (document["callback"] or {}).items()}
                if wanted.items() <= {**document, **of_callback}.items():
                    return document
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{wanted} not shown: {document}") from None


async def ended(server: Serving, call_id: str) -> dict[str, Any]:
    """The record once the call has ended, however long that takes on a busy machine."""
    document: dict[str, Any] = {}
    for _ in range(3):
        document = await record(server, call_id, "30s")
        if document["finished_at"] is not None:
            return document
    raise AssertionError(f"has not ended: {document}")


async def result(server: Serving, call_id: str) -> bytes:
    answer = await server.call(f"/async-function/{call_id}/result", method="GET")
    assert answer.status_code == 200, answer.text
    return answer.content


async def manage(server: Serving, path: str, **document: Any) -> httpx.Response:
    answer = await server.call(path, json.dumps(document).encode())
    assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
    return answer


# ---- the version that makes the folder


async def leave(server: Serving, site: Site) -> Left:
    """Bring calls into every state. What waits does so in paused queues, so that nothing moves afterwards."""
    left = Left(site)
    await _deploy(server, site)
    await _end_some(server, left)
    await _fail_some(server, left)
    await _jam_a_lane(server, left)
    await _begin_one(server, left)
    for queue in QUEUES:
        await manage(server, f"/system/queues/{queue}/pause")
    await _let_wait(server, left)
    left.ended |= {call_id: await record(server, call_id) for call_id in left.ended}
    left.accepted = (await metrics(server)).accepted
    return left


async def _deploy(server: Serving, site: Site) -> None:
    """Functions as a bundle, as commands, in a namespace of its own, with a secret, at two replicas."""
    packed = bundle({"handler.py": (JOURNAL / "handler.py").read_text()}, name="journal")
    answer = await server.call("/system/bundles?name=journal", packed)
    assert json.loads(answer.text.splitlines()[-1])["status"] == "ready", answer.text
    await manage(server, "/system/secrets", name="token", value=SECRET)
    await manage(server, "/system/namespace/team", name="team")
    handler: dict[str, Any] = {"image": image_of(packed, "journal"), "envVars": {"journal": str(site.journal)}}
    gate: dict[str, Any] = {"image": "gate", "envProcess": f"sh -c 'test -e {site.gate} && cat'"}
    attempts = "com.openfaas.retry.attempts"
    functions: dict[str, dict[str, Any]] = {
        "journal": handler,
        "narrow": {**handler, "annotations": {"com.openfaas.max_inflight": "1"}},
        "aside": {**handler, "annotations": {"com.openfaas.queue": "slow"}},
        "gated": {**gate, "annotations": {attempts: "1"}},
        "flaky": {**gate, "annotations": {attempts: "1000", "com.openfaas.retry.min_wait": "1s"}},
        "keeper": {"image": "keeper", "envProcess": 'sh -c "cat $HOLDFAST_SECRETS/token"', "secrets": ["token"]},
    }
    for name, document in functions.items():
        await manage(server, "/system/functions", service=name, **document)
    await manage(server, "/system/functions", service="journal", namespace="team", **handler)
    await manage(server, "/system/scale-function/keeper", replicas=2)


async def _end_some(server: Serving, left: Left) -> None:
    small = await server.accept("echo", b"small")
    large = await server.accept("echo", LARGE)
    left.keyed = (await server.call("/async-function/echo", b"once", KEYED)).headers["X-Call-Id"]
    own = await server.accept("echo", b"own", X_Call_Id="invoice-17")
    chain = await server.accept("journal", b"chain", X_Callback_Url="/async-function/echo")
    left.results |= {small: b"small", large: LARGE, left.keyed: b"once", own: b"own"}
    for call_id in (small, large, left.keyed, own):
        left.ended[call_id] = await ended(server, call_id)
        assert left.ended[call_id]["status"] == "succeeded"
    await record_when(server, chain, status="succeeded")
    # Its second link may still be on its way: both have ended when the sum is right.
    await metrics_when(server, lambda now: now.unaccounted == 0 and now.total("holdfast_calls_in_queue") == 0)
    left.ended[chain] = await record(server, chain)


async def _fail_some(server: Serving, left: Left) -> None:
    async with receiver(left.site.port) as gone:
        gone.answer = 410
        left.dead_callback = await server.accept("echo", b"unwanted", X_Callback_Url=left.site.url)
        await record_when(server, left.dead_callback, callback_status="failed")
    left.dead_call = await server.accept("gated", b"dead")
    assert (await ended(server, left.dead_call))["status"] == "failed"
    parked = await server.accept("echo", b"parked", X_Callback_Url=left.site.url)
    await record_when(server, parked, status="succeeded", callback_status="pending")
    left.told.add(parked)
    retried = await server.accept("flaky", b"retried", X_Callback_Url=left.site.url)
    await record_when(server, retried, status="retrying")
    left.waiting[retried] = "succeeded"
    left.results[retried] = b"retried"
    left.told.add(retried)


async def _jam_a_lane(server: Serving, left: Left) -> None:
    """Calls of a function that may run one at a time stand in a lane of their own."""
    narrow = [await server.accept("narrow", b"narrow", X_Takes="0.5") for _ in range(5)]
    left.waiting |= dict.fromkeys(narrow, "succeeded")
    await metrics_when(server, lambda now: now.total("holdfast_queue_lanes") >= 1)


async def _begin_one(server: Serving, left: Left) -> None:
    """A call that runs when the server ends, unless the machine is so busy that it has ended before."""
    running = await server.accept("journal", b"running", X_Takes="2", X_Callback_Url=left.site.url)
    left.waiting[running] = "succeeded"
    left.told.add(running)
    async with asyncio.timeout(SETTLE_S):
        while not left.site.runs()[running]:
            await asyncio.sleep(0.02)


async def _let_wait(server: Serving, left: Left) -> None:
    site = left.site
    plain = [await server.accept("journal", b"plain", X_Callback_Url=site.url) for _ in range(3)]
    own = await server.accept("journal", b"own", X_Call_Id="invoice-18", X_Callback_Url=site.url)
    soon = await server.accept("journal", b"soon", X_Delay="2s")
    aside = await server.accept("aside", b"aside")
    team = await server.accept("journal.team", b"team")
    keyed = await server.call("/async-function/journal", b"keyed", WAITING_KEYED)
    left.waiting_keyed = keyed.headers["X-Call-Id"]
    left.once = {*plain, own, soon, aside, team, left.waiting_keyed}
    large = await server.accept("echo", LARGE)
    left.chain = await server.accept("journal", b"chain", X_Callback_Url="/async-function/journal.team")
    left.waiting |= dict.fromkeys([*left.once, large, left.chain], "succeeded")
    left.results |= {large: LARGE, plain[0]: b"plain", left.waiting_keyed: b"keyed"}
    left.told |= {*plain, own}
    expiring = await server.accept("journal", b"late", X_Expires_After="1ms")
    left.waiting[expiring] = "expired"
    left.far = await server.accept("echo", b"far", X_Delay="1h")


# ---- the version that opens it


async def take_over(server: Serving, left: Left, *, keys: bool = True) -> None:
    """Everything is there, goes on and ends. `keys`: whether repeats under a key of the version before are known."""
    site = left.site
    await _all_is_there(server, left)
    if keys:
        await _keys_are_known(server, left)
    site.gate.touch()
    async with receiver(site.port) as callbacks:
        assert (await server.call(f"/async-function/{left.far}", method="DELETE")).status_code == 202
        left.ended[left.far] = await record_when(server, left.far, status="cancelled")
        for queue in QUEUES:
            await manage(server, f"/system/queues/{queue}/resume")
        for call_id, status in left.waiting.items():
            left.ended[call_id] = await ended(server, call_id)
            assert left.ended[call_id]["status"] == status, left.ended[call_id]
        await callbacks.wait_for_ids(left.told)

        replayed = await manage(server, "/system/dead-letters/replay", all=True)
        assert {letter["id"] for letter in replayed.json()["replayed"]} == {left.dead_call, left.dead_callback}
        left.ended[left.dead_call] = await record_when(server, left.dead_call, status="succeeded")
        left.results |= {left.dead_call: b"dead", left.dead_callback: b"unwanted"}
        await callbacks.wait_for_ids({left.dead_callback})
        for call_id in (*left.told, left.dead_callback):
            left.ended[call_id] = await record_when(server, call_id, callback_status="delivered")
    for call_id, body in left.results.items():
        assert await result(server, call_id) == body

    found = await metrics_when(
        server, lambda now: now.unaccounted == 0 and now.total("holdfast_calls_in_queue") == 0, timeout_s=SETTLE_S
    )
    assert found.accepted > left.accepted
    runs = site.runs()
    assert {call_id: runs[call_id] for call_id in left.once} == dict.fromkeys(left.once, 1)
    # Both links, which have the id in common.
    assert runs[left.chain] == 2
    assert (await server.call("/function/journal.team", b"now", {"X-Call-Id": "now"})).content == b"now"


async def _all_is_there(server: Serving, left: Left) -> None:
    for queue in QUEUES:
        assert (await shown(server, f"/system/queues/{queue}"))["paused"] is True
    names = {status["name"] for status in await shown(server, "/system/functions")}
    assert names == {"echo", "journal", "narrow", "aside", "gated", "flaky", "keeper"}
    assert [status["name"] for status in await shown(server, "/system/functions?namespace=team")] == ["journal"]
    assert (await shown(server, "/system/function/keeper"))["replicas"] == 2
    assert (await server.call("/function/keeper")).content == SECRET.encode()
    for call_id, before in left.ended.items():
        now = await record(server, call_id)
        same = ("id", "function", "namespace", "queue", "status", "accepted_at", "finished_at", "attempts", "result")
        assert {name: now[name] for name in same} == {name: before[name] for name in same}
    listed = {call["id"] for call in (await shown(server, "/system/calls?limit=500"))["calls"]}
    assert {*left.ended, *left.waiting, left.far} <= listed
    assert (await record(server, left.far))["status"] == "scheduled"
    letters = (await shown(server, "/system/dead-letters"))["dead_letters"]
    assert {(letter["id"], letter["kind"]) for letter in letters} == {
        (left.dead_call, "call"),
        (left.dead_callback, "callback"),
    }


async def _keys_are_known(server: Serving, left: Left) -> None:
    again = await server.call("/async-function/echo", b"once", KEYED)
    assert (again.status_code, again.headers["X-Call-Id"]) == (202, left.keyed)
    again = await server.call("/async-function/journal", b"keyed", WAITING_KEYED)
    assert (again.status_code, again.headers["X-Call-Id"]) == (202, left.waiting_keyed)


async def look_again(server: Serving, left: Left) -> None:
    """After one more start: all has ended, nothing begins again, and the sum is right."""
    for call_id, before in left.ended.items():
        assert (await record(server, call_id))["status"] == before["status"]
    for call_id, body in left.results.items():
        assert await result(server, call_id) == body
    assert (await shown(server, "/system/dead-letters"))["dead_letters"] == []
    found = await metrics(server)
    assert (found.unaccounted, found.total("holdfast_calls_in_queue")) == (0, 0)
