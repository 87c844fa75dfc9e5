"""A real nats-server with JetStream for one test: in a folder and on a port of its own, to be killed and restarted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from holdfast.queue import embedded
from holdfast.settings import NatsSettings

USER = "holdfast"
PASSWORD = "of-one-test"
START_TIMEOUT_S = 20.0  # a machine busy with other tests


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class NatsServer:
    """One nats-server process at a time; the port and the store outlive it. Get it from `nats_server()`."""

    def __init__(self, folder: Path, durability: embedded.Durability, max_payload: int) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = embedded.write_config(folder, self.port, USER, PASSWORD, durability, max_payload=max_payload)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def settings(self, **changes: str) -> NatsSettings:
        """Settings that point here; `changes` are environment names, e.g. faas_reconnect_delay="1s"."""
        return NatsSettings.from_environment({"nats_url": self.url, **changes})

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the process and wait until it answers."""
        assert self._process is None, "it runs already"
        with (self.folder / "nats-server.log").open("ab") as log:
            self._process = subprocess.Popen(
                embedded.argv(embedded.find_binary(), self.config), stdout=log, stderr=log, start_new_session=True
            )
        await embedded.wait_ready(self.port, timeout_s=START_TIMEOUT_S)

    def kill(self) -> None:
        """End the process with SIGKILL, as a crash does; it is gone on return."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the process with SIGTERM; it is gone on return."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nobody answers. All its threads stand on return."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    async def restart(self) -> None:
        """Kill the process and start it again on the same port and store."""
        self.kill()
        await self.start()

    def log(self) -> str:
        return (self.folder / "nats-server.log").read_text()

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@contextlib.asynccontextmanager
async def nats_server(
    durability: embedded.Durability = "os", *, max_payload: int = embedded.MAX_PAYLOAD, started: bool = True
) -> AsyncIterator[NatsServer]:
    """A running server (unless `started` is false), whose folder is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="holdfast-nats-", ignore_cleanup_errors=True) as folder:
        server = NatsServer(Path(folder), durability, max_payload)
        try:
            if started:
                await server.start()
            yield server
        finally:
            server.kill()


async def within(seconds: float, awaitable: Any) -> Any:
    """Await with a limit, so that a broken promise fails its own test and names itself."""
    return await asyncio.wait_for(awaitable, seconds)
