"""A system that is measured: where it listens, where it keeps its calls, which processes it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.stream import Stream

Durability = Literal["os", "disk"]


@dataclass(frozen=True, slots=True)
class Peer:
    """One running system under test, with the functions of bench/stack.yml."""

    name: str
    durability: Durability
    port: int
    """The gateway's, on 127.0.0.1."""
    stream: Stream
    parts: dict[str, list[int]]
    """Process ids by part: gateway, worker, nats-server, function, and what else belongs to it."""
    ready_s: float
    """From the first process's start until calls could be made."""

    @property
    def workers(self) -> list[int]:
        return self.parts["worker"]
