"""How many calls of each function wait in the queues: the gateway knows, and is asked for all functions at once.

Only when an autoscaler wants to know. Why the provider asks, and not NATS: docs/decisions/0013-who-knows-what-waits.md.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import structlog

from holdfast.basic_auth import Credentials
from holdfast.errors import PeerError
from holdfast.http1.client import ClientPool, Origin
from holdfast.http1.message import request_message
from holdfast.provider.scaling import REPORT_S

FRESH_S = 0.9 * REPORT_S
# Autoscalers look every REPORT_S, each at its own moment: one answer serves them all.
TIMEOUT_S = 5.0
MOST_BYTES = 16 * 1024 * 1024

log = structlog.get_logger()


class Backlog:
    """The queues of one gateway."""

    def __init__(self, pool: ClientPool, gateway_url: str, credentials: Credentials | None) -> None:
        self._pool = pool
        self._origin = Origin.parse(gateway_url)
        headers = [(b"Host", self._origin.netloc), (b"Accept", b"application/json")]
        if credentials is not None:
            headers.append((b"Authorization", credentials.header()))
        self._request = request_message(b"GET", b"/system/queues", headers, b"")
        self._asking = asyncio.Lock()
        self._fresh_until = 0.0
        self._waiting: Counter[str] | None = None
        self._failing = False
        """Whether it has been said that the gateway does not say."""

    async def of(self, function: str) -> int | None:
        """How many calls of `name.namespace` wait; None while the gateway does not say."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now >= self._fresh_until:
                self._waiting = await self._ask()
                self._fresh_until = now + FRESH_S
        return None if self._waiting is None else self._waiting[function]

    async def _ask(self) -> Counter[str] | None:
        try:
            answer = await self._pool.fetch(self._origin, self._request, timeout_s=TIMEOUT_S, max_body_bytes=MOST_BYTES)
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")  # noqa: TRY301 - as any other answer that cannot be used
            waiting = waiting_of(json.loads(answer.body))
        except (PeerError, ValueError) as error:
            if not self._failing:
                log.warning("the gateway does not say what waits", gateway=str(self._origin), error=str(error))
            self._failing = True
            return None
        self._failing = False
        return waiting


def waiting_of(queues: Any) -> Counter[str]:
    """Waiting calls by function, over all queues of the gateway's answer. Raises ValueError for any other document."""
    waiting: Counter[str] = Counter()
    try:
        for queue in queues:
            for counted in queue["functions"]:
                waiting[str(counted["function"])] += int(counted["waiting"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a list of queues: {error!r}") from error
    return waiting
