"""Calls as the world makes them: many at once, of all kinds, each with an id that only this sender knows.

A call that was not answered is not sent again under its id: whether it was stored is what the ledger asks.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.support.ledger import Asked, Sent

TIMEOUT_S = 30.0
PAUSE_S = 0.05
# After a refusal, as a caller who has read Retry-After would make a longer one.


@dataclass(frozen=True)
class Kind:
    """One sort of call, with its share of the traffic."""

    name: str
    share: float
    headers: dict[str, str]
    callback: bool = True
    size: int | None = None
    """Of the body; None: up to 2000 bytes."""
    cancel_after_s: float | None = None


KINDS = (
    Kind("plain", 0.6, {}),
    Kind("silent", 0.1, {}, callback=False),
    Kind("retried", 0.1, {"X-Plan": "503,429,200"}),
    Kind("failing", 0.05, {"X-Plan": "422"}),
    Kind("delayed", 0.05, {"X-Delay": "500ms"}),
    Kind("cancelled while scheduled", 0.04, {"X-Delay": "1h"}, cancel_after_s=0.2),
    Kind("cancelled any time", 0.06, {"X-Takes": "0.05"}, cancel_after_s=0.01),
)


class Connection:
    """One keep-alive connection to a gateway, made again when it ends."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, bytes]:
        """Status and body. Raises OSError or EOFError when there is no answer, TimeoutError when none comes."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(*_address(self._url()))
                lines = {"Host": "gateway", "Content-Length": str(len(body)), **(headers or {})}
                head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
                return await self._exchange(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        except BaseException:
            self.close()
            raise

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        assert self._streams is not None
        reader, writer = self._streams
        writer.write(request)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(
            (int(line.split(b":")[1]) for line in answer.split(b"\r\n") if line.startswith(b"content-length")), 0
        )
        content = await reader.readexactly(length) if length else b""
        if b"connection: close" in answer:
            self.close()
        return int(answer[9:12]), content

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


class Traffic:
    """Sends calls of a function to a gateway. `url` is asked for each connection: gateways come and go."""

    def __init__(
        self, url: Callable[[], str], function: str, callback_url: str, *, seed: int, kinds: tuple[Kind, ...] = KINDS
    ) -> None:
        self.sent = Sent()
        self.no_more = False
        """Set to begin no more calls."""
        self._url = url
        self._target = f"/async-function/{function}"
        self._callback_url = callback_url
        self._dice = random.Random(seed)  # noqa: S311 - the same traffic again from the same seed
        self._kinds = kinds
        self._changed = asyncio.Condition()

    async def send(self, calls: int, connections: int, *, pause_s: float = 0.0) -> None:
        """Send until so many are accepted, each connection one every `pause_s` at most."""
        numbers = iter(range(calls))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._send_some(numbers, tasks, pause_s))

    async def accepted(self, count: int, timeout_s: float = 60) -> None:
        """Return once so many calls are accepted."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(self.sent.accepted) >= count)

    async def _send_some(self, numbers: Iterator[int], tasks: asyncio.TaskGroup, pause_s: float) -> None:
        connection = Connection(self._url)
        for _ in numbers:
            if self.no_more:
                break
            await asyncio.sleep(pause_s)
            while not await self._send_one(connection, tasks):
                await asyncio.sleep(PAUSE_S)
        connection.close()

    async def _send_one(self, connection: Connection, tasks: asyncio.TaskGroup) -> bool:
        """One try of one call under an id of its own; whether it was accepted."""
        kind = self._dice.choices(self._kinds, [kind.share for kind in self._kinds])[0]
        call_id = str(uuid.uuid4())
        headers = {"X-Call-Id": call_id, **kind.headers}
        if kind.callback:
            headers["X-Callback-Url"] = self._callback_url
        at = time.monotonic()
        try:
            size = self._dice.randint(0, 2000) if kind.size is None else kind.size
            status, _ = await connection.ask("POST", self._target, headers, b"x" * size)
        except (OSError, EOFError, TimeoutError):
            self.sent.unanswered.add(call_id)
            return False
        if status != 202:
            self.sent.refused[status] += 1
            self.sent.doubtful.add(call_id)
            return False
        self.sent.accepted[call_id] = Asked(call_id, at, kind.name, kind.callback)
        async with self._changed:
            self._changed.notify_all()
        if kind.cancel_after_s is not None:
            tasks.create_task(self._cancel(call_id, self._dice.random() * kind.cancel_after_s))
        return True

    async def _cancel(self, call_id: str, after_s: float) -> None:
        """Cancel a call, however often one has to ask."""
        await asyncio.sleep(after_s)
        connection = Connection(self._url)
        while True:
            try:
                status, _ = await connection.ask("DELETE", f"/async-function/{call_id}")
            except (OSError, EOFError, TimeoutError):
                status = 503
            if status == 202:
                self.sent.cancelled[call_id] = time.monotonic()
            if status in {202, 404, 409, 410}:
                break
            await asyncio.sleep(PAUSE_S)
        connection.close()

    async def records(self, *, connections: int = 16, timeout_s: float = 120) -> dict[str, dict[str, Any] | None]:
        """The records of all accepted calls, each once it has ended, or as it is when the time is over."""
        deadline = time.monotonic() + timeout_s
        found: dict[str, dict[str, Any] | None] = {}
        ids = iter(list(self.sent.accepted))

        async def read_some() -> None:
            connection = Connection(self._url)
            for call_id in ids:
                found[call_id] = await self._record(connection, call_id, deadline)
            connection.close()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(read_some())
        return found

    async def _record(self, connection: Connection, call_id: str, deadline: float) -> dict[str, Any] | None:
        while True:
            left = deadline - time.monotonic()
            try:
                wait_s = max(0.0, min(20.0, left))
                status, body = await connection.ask("GET", f"/async-function/{call_id}?wait={wait_s:.1f}s")
            except (OSError, EOFError, TimeoutError):
                status, body = 503, b""
            if status == 200:
                record: dict[str, Any] = json.loads(body)
                if record["finished_at"] is not None or left <= 0:
                    return record
            elif left <= 0 or status in {404, 410}:
                return None
            else:
                await asyncio.sleep(PAUSE_S)
