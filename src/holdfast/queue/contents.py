"""How much the streams hold, by one question to JetStream: for metrics, whatever the number of calls."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.queue import dead_letter, parked_callback, records
from holdfast.queue.api import ask
from holdfast.queue.connection import Connection
from holdfast.queue.topology import STREAM_PREFIX


class Contents(NamedTuple):
    """Messages by what they are."""

    queues: dict[str, int]
    """Of each queue, the calls that have not ended: those that wait, now or for their time, and those being run."""
    records: int
    dead_letters: int
    parked_callbacks: int


async def contents(connection: Connection) -> Contents:
    """Count the messages of all streams of ours. Raises QueueError."""
    held: dict[str, int] = {}
    seen = 0
    while True:
        page = await ask(connection, "STREAM.LIST", offset=seen)
        streams = page.get("streams") or []
        seen += len(streams)
        for stream in streams:
            held[stream["config"]["name"]] = int(stream["state"]["messages"])
        if not streams or seen >= int(page.get("total", 0)):
            break
    return Contents(
        {name.removeprefix(STREAM_PREFIX): count for name, count in held.items() if name.startswith(STREAM_PREFIX)},
        held.get(records.STREAM, 0),
        held.get(dead_letter.STREAM, 0),
        held.get(parked_callback.STREAM, 0),
    )
