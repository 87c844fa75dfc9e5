"""A system that is measured: where it listens, where it keeps its calls, which processes it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from bench.child import BenchError
from bench.queue import Queue

Durability = Literal["os", "disk"]

FUNCTIONS = ("echo", "clock")
"""The functions of bench/stack.yml."""

FIRST_CALL_S = 20
"""Longest wait for the first answer of a function: its process may still be starting."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One running system under test, with the functions of bench/stack.yml."""

    name: str
    durability: Durability
    port: int
    """The gateway's, on 127.0.0.1."""
    queue: Queue
    parts: dict[str, list[int]]
    """Process ids by part: gateway, worker, nats-server or redis-server, function, and what else belongs to it."""
    ready_s: float
    """From the first process's start until calls could be made."""
    echo_port: int | None = None
    """The port of the function echo itself, past the gateway; None where nobody tells."""
    metrics_port: int | None = None
    """Where the gateway's metrics are; None where there are none."""
    synchronous: bool = True
    """Whether it has /function/<name> as well: a task queue is no way to call a function synchronously."""

    @property
    def workers(self) -> list[int]:
        return self.parts["worker"]


async def call_functions(name: str, port: int) -> None:
    """Call each function once through a gateway. Raises BenchError unless all answer 200."""
    for function in FUNCTIONS:
        await _post(name, port, f"/function/{function}", expected=b"200")


async def accept_functions(name: str, port: int, queue: Queue) -> None:
    """Have each function called once through the queue. Raises BenchError unless all are accepted and run."""
    for function in FUNCTIONS:
        await _post(name, port, f"/async-function/{function}", expected=b"202")
    await queue.until_idle(FIRST_CALL_S)


async def _post(name: str, port: int, path: str, *, expected: bytes) -> None:
    request = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\nHi"
    try:
        async with asyncio.timeout(FIRST_CALL_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request.encode())
            answer = await reader.read()
            writer.close()
    except TimeoutError:
        raise BenchError(f"{name} did not answer POST {path} within {FIRST_CALL_S} s") from None
    if answer[9:12] != expected:
        seen = answer.decode("latin-1")
        raise BenchError(f"{name} answered POST {path} with {seen!r} instead of {expected.decode()}")
