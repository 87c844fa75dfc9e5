from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from holdfast.owed import OWED
from tests.support.nats import NatsServer, nats_server


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every promise is kept on both event loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def nothing_owed() -> None:
    """What other tests of this process left in doubt is none of this one's affair."""
    for slot in list(OWED.doubtful):
        OWED.strike(slot)


@pytest.fixture
async def server() -> AsyncIterator[NatsServer]:
    async with nats_server() as running:
        yield running
