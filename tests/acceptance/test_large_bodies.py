"""Bodies that are too large for a message: they arrive as they were sent, and nothing of them is left behind."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.receiver import Receiver, receiver
from tests.support.serving import Serving, serving

MIB = 1024 * 1024
ENVIRON = {"initial_retry_wait": "100ms", "max_retry_attempts": "2", "orphan_body_age": "1s"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, "--no-auth", environ=ENVIRON) as started:
        yield started


@pytest.fixture
async def callbacks() -> AsyncIterator[Receiver]:
    async with receiver() as started:
        yield started


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def ended(server: Serving, call_id: str) -> dict[str, Any]:
    answer = await server.call(f"/async-function/{call_id}?wait=60s", method="GET")
    document: dict[str, Any] = answer.json()
    assert document["status"] in {"succeeded", "failed", "cancelled", "expired"}, document
    return document


async def test_forty_megabytes_arrive_unchanged_at_the_function_the_callback_and_the_result(
    server: Serving, callbacks: Receiver
) -> None:
    body = os.urandom(40 * MIB)
    call_id = await server.accept("echo", body, X_Callback_Url=callbacks.url, Content_Type="application/x-large")
    (callback,) = await callbacks.wait_for(1)
    assert (sha(callback.body), callback["Content-Type"]) == (sha(body), "application/x-large")
    document = await ended(server, call_id)
    assert (document["status"], document["result"]["bytes"]) == ("succeeded", len(body))
    result = await server.call(f"/async-function/{call_id}/result", method="GET")
    assert (result.status_code, sha(result.content)) == (200, sha(body))
    assert result.headers["Content-Type"] == "application/x-large"
