"""Whether the counters are true again after a fault: accepted is the sum of all ends, to the last call."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator

import httpx

from tests.faults.row import Plan, Row
from tests.support import parts
from tests.support.cluster import cluster
from tests.support.ledger import Fault, read_journal
from tests.support.metrics import Metrics, accounted_for
from tests.support.providers import provider
from tests.support.receiver import receiver
from tests.support.replays import act_at_once
from tests.support.scene import ENVIRON, Scene, scene, settled, stack_file
from tests.support.traffic import Kind, Traffic

CONNECTIONS = 32
SERVE = ("--max-inflight", "32", "--workers", "2", "--gateways", "2")
WITHIN_S = 60.0
STOPPED_S = 8.0
STOPS = 3
KILLS = 30
PAUSES_S = (0.2, 1.0)
CALLS_PER_S = 150
LEADER_KILLS = 5
CALLS_FOR_EACH = 400
LETTERS = 60
REPLAYS = 10
FAILING = (Kind("failing", 1, {"X-Plan": "422"}, callback=False),)


async def nats_stopped(plan: Plan) -> AsyncIterator[Row]:
    """nats-server stands still for 8 s under load: longer than a gateway waits for a confirmation."""
    async with scene(plan.folder, *SERVE) as play:
        for number in range(STOPS):
            traffic = play.traffic(plan.seed + number)
            sending = asyncio.create_task(traffic.send(CALLS_FOR_EACH, CONNECTIONS))
            await traffic.accepted(CALLS_FOR_EACH // 4)
            await play.freeze("nats-server", STOPPED_S)
            await sending
            yield await _row(play, f"stopped for {STOPPED_S:g} s", traffic)


async def processes_killed(plan: Plan) -> AsyncIterator[Row]:
    """Gateways and workers are killed (kill -9) every second or faster under load."""
    dice = random.Random(plan.seed)  # noqa: S311 - the same moments again from the same seed
    async with scene(plan.folder, *SERVE) as play:
        traffic = play.traffic(plan.seed)
        sending = asyncio.create_task(traffic.send(10**9, CONNECTIONS, pause_s=CONNECTIONS / CALLS_PER_S))
        for _ in range(KILLS):
            await asyncio.sleep(dice.uniform(*PAUSES_S))
            await play.kill(dice.choice(("worker", "gateway")), dice.choice((0, 1)))
        traffic.no_more = True
        await sending
        yield await _row(play, f"{KILLS} kills", traffic)


async def _row(play: Scene, what: str, traffic: Traffic) -> Row:
    drawn = await play.balance(traffic, timeout_s=300)
    began = time.monotonic()
    found = await accounted_for(play.server, WITHIN_S)
    sent = traffic.sent
    note = f"{len(sent.doubtful)} answered 503, {len(sent.unanswered)} not answered; {_sum(found, began)}"
    return Row(what, drawn, note)


def _sum(found: Metrics, began: float) -> str:
    took = time.monotonic() - began
    return f"by the metrics {found.accepted:.0f} accepted, and as many ended or waiting {took:.0f} s later"


async def leaders_killed(plan: Plan) -> AsyncIterator[Row]:
    """Three nodes, three copies: the leader of the queue is killed under load, again and again."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        three, callbacks = await enter(cluster()), await enter(receiver())
        runtime = await enter(provider(stack_file(plan.folder).read_text(), plan.folder))
        await runtime.ready("journal")
        environ = {**ENVIRON, "nats_stream_replicas": "3", "ack_wait": "5s"}
        gateway = await enter(parts.gateway(three.url, runtime.url, **environ))
        worker = await enter(parts.worker(three.url, runtime.url, gateway_url=gateway.url, **environ))
        traffic = Traffic(lambda: gateway.url, "journal", callbacks.url, seed=plan.seed)
        faults = []
        for number in range(LEADER_KILLS):
            sending = asyncio.create_task(traffic.send(CALLS_FOR_EACH, CONNECTIONS))
            await traffic.accepted(CALLS_FOR_EACH * number + CALLS_FOR_EACH // 4, timeout_s=120)
            began = time.monotonic()
            leader = await three.leader("OF_faas-request")
            leader.kill()
            await three.leader("OF_faas-request", other_than=leader)
            leader.start()
            faults.append(Fault("leader killed", began, time.monotonic()))
            await sending
        drawn = await settled(traffic, callbacks, lambda: read_journal(plan.folder / "journal"), faults)
        began = time.monotonic()
        client = await enter(httpx.AsyncClient(trust_env=False, timeout=60))
        urls = [re.findall(r"metrics=(\S+)", part.log)[0] + "/metrics" for part in (gateway, worker)]

        async def both() -> Metrics:
            return Metrics("\n".join([(await client.get(url)).text for url in urls]))

        found = await accounted_for(both, WITHIN_S)
        sent = traffic.sent
        note = f"{len(sent.doubtful)} answered 503, {len(sent.unanswered)} not answered; {_sum(found, began)}"
        yield Row(f"{LEADER_KILLS} leaders killed", drawn, note)


async def replayed_at_once(plan: Plan) -> AsyncIterator[Row]:
    """Ten operators replay all of sixty dead letters at the same moment, through two gateways."""
    async with scene(plan.folder, *SERVE, "--no-auth") as play:
        traffic = play.traffic(plan.seed, FAILING)
        await traffic.send(LETTERS, CONNECTIONS)
        drawn = await play.balance(traffic)
        began = time.monotonic()
        reported = await act_at_once(play.server, *["replay"] * REPLAYS)
        letters = Counter(letter for told in reported for letter in told)
        # Some fail again before the last operator has looked, into letters of their own.
        assert {letter.split()[0] for letter in letters} == set(traffic.sent.accepted)
        assert set(letters.values()) == {1}
        found = await accounted_for(play.server, WITHIN_S)
        assert found.accepted == LETTERS + len(letters)
        shares = " + ".join(str(len(told)) for told in reported)
        yield Row(f"{LETTERS} letters, {REPLAYS} replays", drawn, f"replayed {shares}; {_sum(found, began)}")
