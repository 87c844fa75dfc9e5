"""A function that is a server: a command started once, to which each request is relayed.

The command finds the port it has to listen on in `PORT`, or the deployment says in `upstream_url` where it listens. The
watchdog is ready once a connection can be made, and ends when the command does: starting it again, with growing pauses,
is the provider's affair.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from holdfast import sockets
from holdfast.errors import SettingError, StartError
from holdfast.headers import INSTANCE
from holdfast.http1.client import ClientPool, Origin
from holdfast.http1.exchange import Exchange
from holdfast.http1.relay import Dropped, relay
from holdfast.process import Process, Stream, start
from holdfast.settings import WatchdogSettings
from holdfast.watchdog.call import TEXT
from holdfast.watchdog.fork import command
from holdfast.watchdog.log import EventLog
from holdfast.watchdog.slots import Slots

TRY_AGAIN_S = 0.02
# Between two attempts to connect to a command that starts: it tells nobody when it listens.
IDLE_CONNECTIONS = 256

_ONLY_OF_THE_HOP = Dropped.besides((INSTANCE,), (INSTANCE,))


class Upstream:
    """Relays requests, streaming both ways. Made by `upstream`."""

    def __init__(
        self, settings: WatchdogSettings, origin: Origin, process: Process, pool: ClientPool, slots: Slots
    ) -> None:
        self._origin = origin
        self._process = process
        self._pool = pool
        self._slots = slots
        self._timeout_s = settings.exec_timeout_s
        self._max_body_bytes = settings.max_body_bytes

    def begin(self, exchange: Exchange) -> None:
        """A request's head is complete. HOT: the relay's cost."""
        if (exchange.content_length or 0) > self._max_body_bytes:
            text = f"The body is larger than {self._max_body_bytes} bytes (max_body_bytes).\n"
            exchange.respond(413, TEXT, text.encode())
            return
        self._slots.take()
        relay(
            exchange,
            self._pool,
            self._origin,
            target=exchange.target,
            dropped=_ONLY_OF_THE_HOP,
            request_lines=b"",
            answer_lines=b"",
            timeout_s=self._timeout_s,
            done=self._done,
        )

    def _done(self, _status: int) -> None:
        self._slots.free()

    async def ended(self) -> str:
        """Return, with the reason, once the command has ended."""
        return f"the command ended with code {await self._process.wait()}"


@asynccontextmanager
async def upstream(settings: WatchdogSettings, slots: Slots, log: EventLog) -> AsyncIterator[Upstream]:
    """Start the command and return once it listens. Raises StartError when it ends before or takes too long."""
    argv = command(settings.process, os.environ)
    url = settings.upstream_url or f"http://127.0.0.1:{sockets.unlikely_port()}"
    origin = Origin.parse(url)
    if origin.tls:
        raise SettingError("upstream_url", url, "a URL that begins with http://")
    environ = {**os.environ, "PORT": str(origin.port), "upstream_url": url}

    def on_line(_stream: Stream, line: str) -> None:
        log.output(line)

    async with (
        start(argv, environ=environ, on_line=on_line, grace_s=settings.grace_period_s) as process,
        ClientPool(max_idle_per_origin=IDLE_CONNECTIONS) as pool,
    ):
        await _listening(process, origin, settings.upstream_wait_s)
        yield Upstream(settings, origin, process, pool, slots)


async def _listening(process: Process, origin: Origin, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    ended = asyncio.ensure_future(process.wait())
    try:
        while not await _connects(origin):
            if time.monotonic() > deadline:
                raise StartError(
                    f"the command does not listen on {origin} after {timeout_s:g} s (upstream_wait): it finds its port "
                    "in PORT, or upstream_url names it"
                )
            await asyncio.wait({ended}, timeout=TRY_AGAIN_S)
            if ended.done():
                raise StartError(f"the command ended with code {ended.result()} before it listened on {origin}")
    finally:
        ended.cancel()


async def _connects(origin: Origin) -> bool:
    try:
        _, writer = await asyncio.open_connection(origin.host, origin.port)
    except OSError:
        return False
    writer.close()
    return True
