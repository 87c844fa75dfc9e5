"""Try a step until NATS takes it: what a call gave is not thrown away because it cannot be written this moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from holdfast.errors import QueueRefused, QueueUnavailable

NATS_AGAIN_S = 0.25
# There is an event for the connection's return, none for JetStream's: both are waited for by trying.

T = TypeVar("T")


async def insist(step: Callable[[], Awaitable[T]]) -> T:
    """Try a step until NATS takes it. Raises QueueRefused when trying again would not change that.

    While NATS has no room the calls that have ended wait here for it: run again, they would need as much.
    """
    while True:
        try:
            return await step()
        except QueueUnavailable:
            pass
        except QueueRefused as error:
            if not error.may_pass:
                raise
        await asyncio.sleep(NATS_AGAIN_S)
