from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest_asyncio

from tests.hostile.mirror import Mirror, mirror
from tests.support.nats import nats_server
from tests.support.parts import Part, gateway, worker
from tests.support.serving import CALLED_AS

NAMES = f"{CALLED_AS}, other, other.example, metadata.internal"


@dataclass
class Stage:
    """A gateway and a worker before the mirror. No test changes it."""

    gateway: Part
    function: Mirror

    @property
    def port(self) -> int:
        return int(self.gateway.url.rsplit(":", 1)[1])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with (
        nats_server() as nats,
        mirror() as function,
        gateway(nats.url, function.url, callback_allow="", max_body_bytes="1048576", allowed_hosts=NAMES) as front,
        worker(nats.url, function.url),
    ):
        yield Stage(front, function)
