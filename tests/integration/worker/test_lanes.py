"""Fairness and limits: a gateway and workers before functions that hold their calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx

from holdfast.function import FunctionRef
from holdfast.http1.message import request_message
from holdfast.invocation import CallId, Invocation
from holdfast.queue.connection import connect
from holdfast.queue.message import to_move_into_lane, to_publish_later
from holdfast.queue.publisher import Publisher
from holdfast.queue.record import CallRecord, CallStatus
from holdfast.queue.records import Records
from holdfast.queue.waiting import find
from tests.support.held_functions import HeldFunction, HeldFunctions, held_functions
from tests.support.nats import NatsServer, nats_server
from tests.support.parts import Part, gateway, worker

QUEUE = "faas-request"
MAX_INFLIGHT = "com.openfaas.max_inflight"


@dataclass
class Stage:
    functions: HeldFunctions
    nats: NatsServer
    client: httpx.AsyncClient
    stack: AsyncExitStack

    async def worker(self, **environ: str) -> Part:
        return await self.stack.enter_async_context(
            worker(self.nats.url, self.functions.url, replica_wait="5s", **environ)
        )

    async def accept(self, function: str, bodies: Iterable[str]) -> list[str]:
        """Gives the call ids."""

        async def one(body: str) -> str:
            answer = await self.client.post(f"/async-function/{function}", content=body)
            assert answer.status_code == 202, answer.text
            return str(answer.headers["X-Call-Id"])

        return list(await asyncio.gather(*map(one, bodies)))

    async def ended(self, call_id: str) -> str:
        """The status of a call once it has ended."""
        answer = await self.client.get(f"/async-function/{call_id}?wait=60s")
        return str(answer.json()["status"])


@asynccontextmanager
async def stage(**annotations: dict[str, str]) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(nats_server())
        functions = await stack.enter_async_context(held_functions(**annotations))
        front = await stack.enter_async_context(gateway(nats.url, functions.url))
        limits = httpx.Limits(max_connections=32)
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=front.url, trust_env=False, timeout=90, limits=limits)
        )
        made = Stage(functions, nats, client, stack)
        try:
            yield made
        finally:
            # Calls that are held would keep the workers from ending in time.
            for function in functions.by_name.values():
                function.let_go()


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


async def all_run(function: HeldFunction, count: int) -> None:
    function.let_go()
    await function.wait_for(count)
    assert sorted(function.begun, key=int) == numbers(count)  # each once


async def test_one_call_of_another_function_overtakes_hundreds_that_wait() -> None:
    async with stage(slow={}, other={}) as at:
        await at.worker(max_inflight="8")
        await at.accept("slow", numbers(300))
        await at.functions["slow"].wait_for(8)
        (other,) = await at.accept("other", ["x"])
        at.functions["other"].open = True
        # The jam has to be seen and sorted before a slot gets free: then the worker has the other's call.
        async with asyncio.timeout(60):
            while (await at.client.get(f"/async-function/{other}")).json()["status"] != "running":
                await asyncio.sleep(0.05)
        # The first slot may go to the slow one, whose turn it may be: the next is the other's.
        at.functions["slow"].let_go(2)
        assert await at.ended(other) == "succeeded"
        assert len(at.functions["slow"].begun) <= 10
        await all_run(at.functions["slow"], 300)


async def test_a_call_of_another_function_need_not_wait_for_one_to_end() -> None:
    async with stage(slow={}, other={}) as at:
        await at.worker(max_inflight="16")
        await at.accept("slow", numbers(100))
        await at.functions["slow"].wait_for(15)
        at.functions["other"].open = True
        others = await at.accept("other", numbers(5))
        assert [await at.ended(call) for call in others] == ["succeeded"] * 5
        assert len(at.functions["slow"].begun) == 15
        await all_run(at.functions["slow"], 100)


async def test_what_waits_before_any_worker_runs_is_sorted_as_well() -> None:
    async with stage(slow={}, other={}) as at:
        await at.accept("slow", numbers(150))
        (other,) = await at.accept("other", ["x"])
        at.functions["other"].open = True
        running = await at.worker(max_inflight="8")
        await running.logged("lane opened")
        at.functions["slow"].let_go(2)
        assert await at.ended(other) == "succeeded"
        assert len(at.functions["slow"].begun) <= 10
        await all_run(at.functions["slow"], 150)


async def test_an_annotated_limit_holds_for_all_workers_together() -> None:
    async with stage(narrow={MAX_INFLIGHT: "3"}, other={}) as at:
        await at.worker()
        await at.worker()
        await at.accept("narrow", numbers(60))
        await at.functions["narrow"].wait_for(3)
        at.functions["other"].open = True
        others = await at.accept("other", numbers(20))
        assert {await at.ended(call) for call in others} == {"succeeded"}
        assert at.functions["narrow"].most == 3
        for done in range(1, 30):
            at.functions["narrow"].let_go(1)
            await at.functions["narrow"].wait_for(3 + done)
        assert at.functions["narrow"].most == 3
        await all_run(at.functions["narrow"], 60)
        assert at.functions["narrow"].most == 3


async def test_a_function_that_says_too_many_is_given_as_many_as_it_takes() -> None:
    async with stage(choosy={"com.openfaas.retry.min_wait": "10ms", "com.openfaas.retry.attempts": "1000"}) as at:
        choosy = at.functions["choosy"]
        choosy.open, choosy.takes_s = True, 0.02
        choosy.answer = lambda running: (200, {}) if running <= 2 else (429, {})
        await at.worker(max_inflight="16")
        calls = await at.accept("choosy", numbers(100))
        assert {await at.ended(call) for call in calls} == {"succeeded"}
        # All sixteen slots at once, each refused call tried again every 10 ms, would be refused a thousand times.
        assert len(choosy.begun) < 100 * 4


async def test_retry_after_leaves_the_function_alone_and_not_only_the_call() -> None:
    async with stage(busy={}, other={}) as at:
        busy = at.functions["busy"]
        busy.answer = lambda _running: (503, {"Retry-After": "2"}) if len(busy.begun) == 0 else (200, {})
        busy.open = at.functions["other"].open = True
        await at.worker()
        await at.accept("busy", ["0"])
        await busy.wait_for(1)
        loop = asyncio.get_running_loop()
        refused_at = loop.time()
        (second,) = await at.accept("busy", ["1"])
        (other,) = await at.accept("other", ["x"])
        assert await at.ended(other) == "succeeded"
        assert len(busy.begun) == 1
        assert await at.ended(second) == "succeeded"
        assert loop.time() - refused_at > 1.5


async def test_calls_in_a_lane_can_be_asked_for_and_cancelled() -> None:
    async with stage(narrow={MAX_INFLIGHT: "1"}) as at:
        await at.worker()
        await at.accept("narrow", ["0"])
        await at.functions["narrow"].wait_for(1)
        calls = await at.accept("narrow", ["1", "2", "3"])
        assert (await at.client.get(f"/async-function/{calls[2]}")).json()["status"] == "waiting"
        assert (await at.client.delete(f"/async-function/{calls[1]}")).status_code == 202
        at.functions["narrow"].let_go()
        assert [await at.ended(call) for call in calls] == ["succeeded", "cancelled", "succeeded"]
        assert at.functions["narrow"].begun == ["0", "1", "3"]


async def test_a_lane_outlives_its_workers_and_a_killed_one_loses_nothing() -> None:
    async with stage(narrow={MAX_INFLIGHT: "2"}) as at:
        first = await at.worker(ack_wait="2s")
        calls = await at.accept("narrow", numbers(40))
        await at.functions["narrow"].wait_for(2)
        first.process.kill()
        await first.process.wait()
        more = await at.accept("narrow", ["40"])
        at.functions["narrow"].let_go()
        await at.worker(ack_wait="2s")
        assert {await at.ended(call) for call in (*calls, *more)} == {"succeeded"}
        assert set(at.functions["narrow"].begun) == set(numbers(41))


async def test_a_call_that_was_cancelled_while_it_moved_is_not_run_where_it_comes_to() -> None:
    """Whoever cancels a call in the moment in which its message becomes another finds neither; its record tells."""
    async with stage(limited={MAX_INFLIGHT: "1"}, other={}) as at:
        await at.worker(max_inflight="4")
        at.functions["limited"].let_go()
        at.functions["other"].let_go()
        assert await at.ended((await at.accept("limited", ["before"]))[0]) == "succeeded"  # there is its lane
        async with connect(at.nats.settings(), name="test") as connection:
            publisher = Publisher(connection, 5.0)
            records = Records(connection, publisher)
            moved = Invocation(
                CallId("moved"),
                "moved",
                FunctionRef.parse("limited", "openfaas-fn"),
                time.time_ns(),
                None,
                request_message(b"POST", b"/", [], b"moved"),
            )
            delayed = moved._replace(
                call_id=CallId("delayed"), message_id="delayed", function=FunctionRef.parse("other", "openfaas-fn")
            )
            for invocation in (moved, delayed):
                record = CallRecord.of(invocation, QUEUE, CallStatus.WAITING)
                await records.put(record.cancelled(time.time_ns(), "a test"), b"", 0)
            await publisher.confirm(*to_move_into_lane(QUEUE, moved))
            await publisher.confirm(*to_publish_later(QUEUE, delayed, datetime.now(UTC) + timedelta(seconds=0.2)))
            async with asyncio.timeout(30):
                for invocation in (moved, delayed):
                    while await find(connection, invocation.call_id, surely=True) is not None:
                        await asyncio.sleep(0.02)  # until a worker has acknowledged it
        assert at.functions["limited"].begun == ["before"]
        assert at.functions["other"].begun == []
