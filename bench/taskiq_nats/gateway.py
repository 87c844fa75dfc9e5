"""The gateway that stores calls by taskiq. Run by `uvicorn bench.taskiq_nats.gateway:app`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from bench.calls import Call
from bench.fastapi_gateway import gateway
from bench.taskiq_nats.tasks import broker, run


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


async def store(call: Call) -> None:
    """Publish with JetStream's confirmation."""
    await run.kiq(call)


app = gateway(store, lifespan)
