"""Waits as many seconds as its body says, and holds no thread meanwhile: a slow function that costs nothing."""

from __future__ import annotations

import asyncio
from typing import Any


async def handle(event: Any, context: Any) -> str:  # noqa: ARG001 - what a python3-http handler takes
    await asyncio.sleep(float(event.body))
    return "done"
