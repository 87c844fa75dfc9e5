"""What the gateway and the worker of each peer agree on: where the functions are, which headers go where. No I/O.

Holdfast has its own; this is for the peers that bench/ brings along.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import TypedDict

INFLIGHT = 64
"""Calls that a peer's worker runs at once, as many as Holdfast's."""

QUEUE_VARIABLE = "PEER_QUEUE"
"""Environment variable: the URL of the server that keeps the calls."""
FUNCTIONS_VARIABLE = "PEER_FUNCTIONS"
"""Environment variable: what `functions` returns, as JSON."""

HOP_BY_HOP = frozenset(
    ("connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)


def environment(queue: str, urls: dict[str, str]) -> dict[str, str]:
    """What a gateway and a worker are started with, for `queue_url` and `functions` to read there."""
    return {QUEUE_VARIABLE: queue, FUNCTIONS_VARIABLE: json.dumps(urls)}


def queue_url() -> str:
    return os.environ[QUEUE_VARIABLE]


def functions() -> dict[str, str]:
    """Base URL by name: what a directory of functions would tell."""
    found: dict[str, str] = json.loads(os.environ[FUNCTIONS_VARIABLE])
    return found


class Call(TypedDict):
    """A call as the task queues carry it: as JSON."""

    call_id: str
    function: str
    target: str
    """Path and query for the function."""
    headers: list[tuple[str, str]]
    body: str
    """The bytes of the request as Latin-1, so that JSON takes them whatever they are."""
    callback: str | None
    started: str
    """Unix time in nanoseconds at which the call was accepted."""


def callback_headers(
    answer: Iterable[tuple[str, str]], *, call_id: str, function: str, started: str, status: int, duration_s: float
) -> dict[str, str]:
    """The function's own headers, and OpenFaaS's about the call."""
    return {
        **{name: value for name, value in answer if name.lower() not in HOP_BY_HOP},
        "X-Call-Id": call_id,
        "X-Duration-Seconds": f"{duration_s:f}",
        "X-Start-Time": started,
        "X-Function-Status": str(status),
        "X-Function-Name": function,
    }
