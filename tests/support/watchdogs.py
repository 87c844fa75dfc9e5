"""A watchdog as the provider starts it, in a process of its own on a free port."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from holdfast import sockets
from holdfast.http1.client import Origin
from holdfast.process import Process, start
from holdfast.provider.deployments import passed_on
from holdfast.settings import WatchdogSettings

TIMEOUT_S = 30.0


class RunningWatchdog:
    """A watchdog that is ready. Get it from `watchdog()`."""

    process: Process

    def __init__(self, port: int) -> None:
        self.port = port
        self.lines: list[str] = []
        self._changed = asyncio.Event()

    def on_line(self, _stream: str, line: str) -> None:
        self.lines.append(line)
        self._changed.set()

    async def logged(self, text: str) -> str:
        """Wait for a line with this text in it, and give it."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for line in self.lines:
                    if text in line:
                        return line
                self._changed.clear()
                await self._changed.wait()

    def terminate(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@dataclass
class Address:
    """The sockets of a replica, which its provider holds over all lives of its watchdog."""

    port: socket.socket
    local: socket.socket

    @property
    def origin(self) -> Origin:
        """By the Unix socket, as gateways and workers of this machine call it."""
        return Origin("127.0.0.1", sockets.port_of(self.port), local=sockets.local_name(sockets.local_url(self.local)))


@contextmanager
def address() -> Iterator[Address]:
    """The sockets while the context lasts."""
    local = sockets.listen_local()
    assert local is not None, "abstract Unix sockets are Linux's"
    with local, sockets.listen("127.0.0.1", 0, purpose="test", option="nothing") as port:
        yield Address(port, local)


@asynccontextmanager
async def watchdog(
    *, ready: bool = True, cwd: Path | None = None, at: Address | None = None, **environ: str
) -> AsyncIterator[RunningWatchdog]:
    """Start a watchdog with settings from `environ`, `at` sockets that are there; with `ready`, return when it is."""
    listening = sockets.listen("127.0.0.1", 0, purpose="test", option="nothing") if at is None else at.port
    local = {} if at is None else {WatchdogSettings.LOCAL_FD: str(at.local.fileno())}
    read_end, write_end = os.pipe()
    try:
        running = RunningWatchdog(sockets.port_of(listening))
        async with start(
            [sys.executable, "-P", "-m", "holdfast.watchdog"],
            environ={
                **passed_on(os.environ),
                **environ,
                WatchdogSettings.LISTEN_FD: str(listening.fileno()),
                WatchdogSettings.READY_FD: str(write_end),
                **local,
            },
            cwd=cwd,
            on_line=running.on_line,
            pass_fds=[listening.fileno(), write_end, *map(int, local.values())],
            grace_s=5,
        ) as process:
            running.process = process
            os.close(write_end)
            write_end = -1
            if ready:
                word = await asyncio.wait_for(asyncio.to_thread(os.read, read_end, 100), TIMEOUT_S)
                assert word == b"ready %d\n" % process.pid, running.lines
            yield running
    finally:
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)
        if at is None:
            listening.close()


def handler(folder: Path, text: str) -> str:
    """Write a handler.py and give its folder, for the setting `handler`."""
    (folder / "handler.py").write_text(text)
    return str(folder)


def python(text: str) -> str:
    """A command that runs a piece of Python, for the setting `fprocess`."""
    return shlex.join([sys.executable, "-c", text])
