"""The systems' processes: started the way users start them, their output kept for when something goes wrong.

A process is killed when the bench ends for whatever reason (`holdfast.process` sees to it), and ended in order before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from bench.child import ROOT, BenchError
from holdfast.process import Process, start

BIN = Path(sys.executable).parent
STOP_S = 40
"""Longest wait for an orderly end: a little longer than the worker's own grace period."""

_LINES_KEPT = 25
_LOOK_AGAIN_S = 0.01  # a port that nobody listens on yet cannot tell when somebody will


class Running:
    """A process of a measured system."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.was_ready = True
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def descendants(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    async def ready(self, condition: Awaitable[None], timeout_s: float) -> None:
        """Wait for `condition`. Raises BenchError when the process ends first or time is over."""
        self.was_ready = False
        waiting = asyncio.ensure_future(condition)
        ended = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait((waiting, ended), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                await waiting
                self.was_ready = True
                return
            how = f"ended with code {ended.result()}" if ended.done() else f"was not ready after {timeout_s:g} s"
            raise BenchError(f"{self.name} {how}")
        finally:
            for task in (waiting, ended):
                task.cancel()
            await asyncio.gather(waiting, ended, return_exceptions=True)


@contextlib.asynccontextmanager
async def running(
    name: str, argv: Sequence[str | Path], environ: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """Run a command from the project's folder, with `environ` on top of this process's environment."""
    output: deque[str] = deque(maxlen=_LINES_KEPT)
    command = [str(word) for word in argv]
    async with start(
        command,
        environ=os.environ | dict(environ or {}),
        cwd=ROOT,
        on_line=lambda _stream, line: output.append(line),
        grace_s=STOP_S,
    ) as process:
        begun = Running(name, process)
        try:
            yield begun
        except Exception:
            if process.returncode is not None or not begun.was_ready:
                print(f"the last output of {name}:", *output, sep="\n", file=sys.stderr)
            raise


async def listens(port: int) -> None:
    """Return once somebody listens on `port`."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(_LOOK_AGAIN_S)


async def written(path: Path) -> None:
    """Return once the file exists and is not empty."""
    while not path.is_file() or not path.stat().st_size:
        await asyncio.sleep(_LOOK_AGAIN_S)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """Hold processes still (SIGSTOP) as long as the context lasts: they keep all connections and do nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
