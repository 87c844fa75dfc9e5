"""What an operator reads of the calls: how many, how they ended, and that none is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.support.metrics import Metrics, metrics_when
from tests.support.receiver import receiver
from tests.support.serving import Serving, serving

ENVIRON = {"max_retry_attempts": "2", "initial_retry_wait": "100ms", "callback_initial_wait": "100ms"}
CALLS = 40
FUNCTION = {"function_name": "chaos.openfaas-fn"}


async def ended(server: Serving, call_id: str) -> dict[str, Any]:
    answer = await server.call(f"/async-function/{call_id}?wait=30s", method="GET")
    document: dict[str, Any] = answer.json()
    return document


async def test_accepted_calls_are_in_a_queue_or_have_ended_and_a_metric_shows_each(tmp_path: Path) -> None:
    async with receiver() as callbacks, serving(tmp_path, "--gateways", "2", "--no-auth", environ=ENVIRON) as server:
        good = await asyncio.gather(
            *(server.accept("echo", b"%d" % n, X_Callback_Url=callbacks.url) for n in range(CALLS))
        )
        await callbacks.wait_for_ids(set(good))
        same = await asyncio.gather(*(server.accept("echo", b"once", Idempotency_Key="k") for _ in range(5)))
        exhausted = await server.accept("chaos?status=500")
        final = await server.accept("chaos?status=422")
        slow = await server.accept("sleep?duration=30s", X_Timeout="200ms")
        for call_id in (same[0], exhausted, final, slow):
            await ended(server, call_id)
        delayed = await server.accept("echo", X_Delay="1h")
        cancelled = await server.accept("echo", X_Delay="1h")
        await server.call(f"/async-function/{cancelled}", method="DELETE")

        def all_counted(found: Metrics) -> bool:
            return found.unaccounted == 0 and found.total("holdfast_calls_ended_total") == CALLS + 5

        found = await metrics_when(server, all_counted)
        assert found.accepted == CALLS + 6
        assert found.total("holdfast_calls_in_queue", queue_name="faas-request") == 1
        by_status = {
            status: found.total("holdfast_calls_ended_total", status=status)
            for status in ("succeeded", "failed", "cancelled", "expired")
        }
        assert by_status == {"succeeded": CALLS + 1, "failed": 3, "cancelled": 1, "expired": 0}
        assert found.total("holdfast_duplicates_avoided_total", kind="idempotency_key") == 4
        assert found.total("holdfast_retries_total", reason="500", **FUNCTION) == 1
        assert found.total("holdfast_retries_total", reason="timed_out") == 1
        assert found.total("holdfast_dead_letters_total", reason="500", **FUNCTION) == 1
        assert found.total("holdfast_dead_letters_total", reason="422", **FUNCTION) == 1
        assert found.total("holdfast_dead_letters_kept") == 3
        assert found.total("holdfast_callbacks_total", outcome="delivered") == CALLS
        # Of each first run, and not of those that had waited for their time.
        assert found.total("holdfast_queue_wait_seconds_count", queue_name="faas-request") == CALLS + 4

        replay = await server.call("/system/dead-letters/replay", b'{"all": true}')
        assert replay.status_code == 200, replay.text
        found = await metrics_when(server, lambda found: found.total("holdfast_dead_letters_total") == 6)
        await metrics_when(server, lambda found: found.unaccounted == 0)
    async with serving(tmp_path, environ=ENVIRON) as server:
        again = await metrics_when(server, lambda found: found.unaccounted == 0)
        assert again.accepted == found.accepted == CALLS + 9
        await server.call(f"/async-function/{delayed}", method="DELETE")
        last = await metrics_when(server, lambda found: found.total("holdfast_calls_in_queue") == 0)
        assert last.total("holdfast_calls_ended_total") == CALLS + 9


async def test_a_call_that_was_not_started_in_time_is_counted_as_expired(tmp_path: Path) -> None:
    async with serving(tmp_path, "--workers", "0") as server:
        await server.accept("echo", X_Expires_After="50ms")
        found = await metrics_when(server, lambda found: found.total("holdfast_calls_in_queue") == 1)
        assert found.unaccounted == 0
    async with serving(tmp_path) as server:
        found = await metrics_when(server, lambda found: found.total("holdfast_calls_ended_total") == 1)
        assert found.total("holdfast_calls_ended_total", status="expired") == 1
        await metrics_when(server, lambda found: found.unaccounted == 0)
