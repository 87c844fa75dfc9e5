"""Holdfast's own routes, asked one request at a time."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from statistics import median
from typing import Any

from bench.child import BenchError
from bench.peer import Peer
from holdfast.http1.client import Answer, ClientPool, Origin
from holdfast.http1.message import request_message

QUEUE = "faas-request"
ANSWER_TIMEOUT_S = 60.0
MOST_ANSWER_BYTES = 64 * 1024 * 1024
WAIT_S = 30
"""One long-poll for the end of a call."""


class Api:
    """The gateway's routes, and its metrics."""

    def __init__(self, pool: ClientPool, peer: Peer) -> None:
        self._pool = pool
        self._port = peer.port
        self._metrics_port = peer.metrics_port or 0

    async def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        body: bytes = b"",
        headers: Sequence[tuple[bytes, bytes]] = (),
        port: int = 0,
    ) -> Answer:
        """One request. Raises BenchError when the answer says that something is wrong."""
        origin = Origin.parse(f"http://127.0.0.1:{port or self._port}")
        lines = [(b"Host", origin.netloc), *headers]
        if document is not None:
            lines, body = [*lines, (b"Content-Type", b"application/json")], json.dumps(document).encode()
        request = request_message(method.encode(), path.encode(), lines, body)
        answer = await self._pool.fetch(origin, request, timeout_s=ANSWER_TIMEOUT_S, max_body_bytes=MOST_ANSWER_BYTES)
        if answer.status >= 400:
            raise BenchError(
                f"{method} {path} was answered {answer.status}: {answer.body[:500].decode(errors='replace')}"
            )
        return answer

    async def get(self, path: str) -> Any:
        return json.loads((await self.ask("GET", path)).body)

    async def metrics(self) -> str:
        return (await self.ask("GET", "/metrics", port=self._metrics_port)).body.decode()

    async def ms(self, path: str, times: int, *, metrics: bool = False) -> float:
        """The median time of a GET, in milliseconds."""
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            await self.ask("GET", path, port=self._metrics_port if metrics else 0)
            taken.append(time.perf_counter() - began)
        return median(taken) * 1e3

    async def call(self, function: str, body: bytes, callback_url: str = "") -> str:
        """Have a call accepted; gives its id."""
        headers = [(b"X-Callback-Url", callback_url.encode())] if callback_url else []
        answer = await self.ask("POST", f"/async-function/{function}", body=body, headers=headers)
        return {name.lower(): value for name, value in answer.headers}[b"x-call-id"].decode()

    async def waited_s(self, call_id: str, timeout_s: float) -> float:
        """Wait for the end of a call; the time from its acceptance to its start."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            record = await self.get(f"/async-function/{call_id}?wait={WAIT_S}s")
            if record["status"] == "succeeded":
                began, accepted = (datetime.fromisoformat(record[name]) for name in ("started_at", "accepted_at"))
                return (began - accepted).total_seconds()
        raise BenchError(f"call {call_id} has not ended after {timeout_s:g} s")

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """No call is handed out as long as the context lasts; workers live on."""
        await self.ask("POST", f"/system/queues/{QUEUE}/pause")
        yield
        await self.ask("POST", f"/system/queues/{QUEUE}/resume")


@contextlib.asynccontextmanager
async def api(peer: Peer) -> AsyncIterator[Api]:
    async with ClientPool() as pool:
        yield Api(pool, peer)
