from __future__ import annotations

import asyncio
from typing import Any

from holdfast.queue import presence as presence_module
from holdfast.queue.connection import Connection, connect
from holdfast.queue.presence import Announcer, Presence
from tests.support.nats import NatsServer


def announcer(connection: Connection, queue: str = "slow", **fields: Any) -> Announcer:
    return Announcer(connection, queue, lambda: {"max_inflight": 4, "running": 1, **fields})


async def until(seen: Any, timeout_s: float = 20) -> None:
    """Return once `seen()`: an announcement comes when it comes, and tells no test."""
    async with asyncio.timeout(timeout_s):
        while not seen():
            await asyncio.sleep(0.01)


async def test_a_gateway_that_comes_later_hears_at_once_who_is_there(server: NatsServer) -> None:
    async with connect(server.settings(), name="worker") as there, connect(server.settings(), name="gateway") as here:
        announced = announcer(there)
        await there.flush()
        presence = Presence(here)
        assert presence.is_served("slow") is None
        # The roll call is answered within moments, not with the next second.
        await until(lambda: presence.is_served("slow"), presence_module.EVERY_S)
        (worker,) = presence.workers_of("slow")
        assert (worker.number("max_inflight"), worker.number("running"), worker.number("nonsense")) == (4, 1, 0)
        assert presence.workers_of("other") == []
        announced.close()
        presence.close()


async def test_a_worker_that_stops_is_forgotten_at_once_and_one_that_falls_silent_in_time(server: NatsServer) -> None:
    async with connect(server.settings(), name="gateway") as here:
        presence = Presence(here)
        async with connect(server.settings(), name="worker") as stops:
            announced = announcer(stops)
            await until(lambda: presence.workers_of("slow"))
            announced.close()
            await until(lambda: not presence.workers_of("slow"))
            announced.close()  # once more does nothing
        async with connect(server.settings(), name="worker") as dies:
            silent = announcer(dies)
            await until(lambda: presence.workers_of("slow"))
            silent._timer.cancel()
            await until(lambda: presence.is_served("slow") is False)
        presence.close()


async def test_while_nats_is_away_it_is_not_said_that_there_is_no_worker(server: NatsServer) -> None:
    settings = server.settings(faas_reconnect_delay="100ms", faas_max_reconnect="0")
    async with connect(settings, name="gateway") as here, connect(settings, name="worker") as there:
        presence = Presence(here)
        announced = announcer(there)
        await until(lambda: presence.is_served("slow"))
        server.kill()
        await until(lambda: not here.connected)
        assert presence.is_served("slow") is True
        assert presence.is_served("other") is None
        await server.start()
        await until(lambda: here.connected and there.connected)
        await until(lambda: presence.is_served("other") is False)
        assert presence.is_served("slow") is True
        announced.close()
        presence.close()


async def test_what_is_no_announcement_is_passed_over(server: NatsServer) -> None:
    async with connect(server.settings(), name="gateway") as here, connect(server.settings(), name="other") as other:
        presence = Presence(here)
        await here.flush()
        for nonsense in (b"", b"{}", b"[]", b"null", b'{"id": 1}', b"\xff"):
            other.send(b"PUB holdfast.worker.slow %d\r\n%b\r\n" % (len(nonsense), nonsense))
        announced = announcer(other, note="x")
        await until(lambda: presence.workers_of("slow"))
        assert len(presence.workers_of("slow")) == 1
        announced.close()
        presence.close()
