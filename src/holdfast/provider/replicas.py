"""What runs: watchdog processes, which of them are ready, and whoever waits for that.

One replica is one watchdog behind a socket of its own. The socket is bound here and outlives the process, so a
replica keeps its address when it is started again, and callers who come meanwhile wait in the socket's backlog.
Which functions run is decided in deployments.py.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NoReturn

import structlog

from holdfast import sockets
from holdfast.errors import DeploymentError
from holdfast.function import FunctionRef
from holdfast.process import Stream, supervise
from holdfast.provider.deployments import Launch, launch
from holdfast.provider.logs import FunctionLogs
from holdfast.settings import ProviderSettings, WatchdogSettings
from holdfast.stack import Deployment

# Beyond the watchdog's own grace period, so that it ends by itself.
GRACE_MARGIN_S = 2.0

log = structlog.get_logger()


class Replica:
    """One watchdog process, started again whenever it ends."""

    def __init__(
        self, instance: str, launched: Launch, logs: FunctionLogs, on_change: Callable[[], None], *, grace_s: float
    ) -> None:
        self.instance = instance
        self.pid: int | None = None
        self.ready: bool = False
        self._launch = launched
        self._logs = logs
        self._on_change = on_change
        self._grace_s = grace_s
        self._ready_pid: int | None = None
        self._last_line = ""
        self._log = log.bind(instance=instance)
        self._socket = sockets.listen("127.0.0.1", 0, purpose="function", option="nothing: no port is free")
        self.endpoint = sockets.url_of(self._socket)

    async def run(self) -> NoReturn:
        """Keep the process running until cancelled, which ends it in order."""
        loop = asyncio.get_running_loop()
        # One pipe for all its lives. Each says its process id, so that a late word of a dead one is not believed.
        read_end, write_end = os.pipe()
        loop.add_reader(read_end, self._hear, read_end)
        descriptors = {
            WatchdogSettings.LISTEN_FD: str(self._socket.fileno()),
            WatchdogSettings.READY_FD: str(write_end),
        }
        try:
            await supervise(
                self._launch.argv,
                environ={**self._launch.environ, **descriptors},
                cwd=self._launch.cwd,
                on_line=self._on_line,
                pass_fds=(self._socket.fileno(), write_end),
                on_start=self._on_start,
                on_exit=self._on_exit,
                grace_s=self._grace_s + GRACE_MARGIN_S,
            )
        finally:
            loop.remove_reader(read_end)
            os.close(read_end)
            os.close(write_end)
            self._socket.close()
            self.pid = None
            self._update()

    def _on_start(self, pid: int) -> None:
        self.pid = pid
        self._log.info("replica started", pid=pid)
        self._update()

    def _hear(self, read_end: int) -> None:
        for word in os.read(read_end, 4096).split(b"\n"):
            if word.startswith(b"ready "):
                self._ready_pid = int(word[6:])
        self._update()

    def _on_exit(self, code: int) -> None:
        self._log.error("replica ended, starting it again", pid=self.pid, code=code, last_line=self._last_line)
        self._logs.append(self.instance, f"[error] the watchdog ended with code {code}, it is started again")
        self.pid = None
        self._update()

    def _on_line(self, _stream: Stream, line: str) -> None:
        # Shown in the provider's own log, where a function must not paint over other lines.
        self._last_line = "".join(c if c.isprintable() else "?" for c in line[:200])
        self._logs.append(self.instance, line)

    def _update(self) -> None:
        ready = self.pid is not None and self.pid == self._ready_pid
        if ready != self.ready:
            self.ready = ready
            if ready:
                self._log.info("replica ready", pid=self.pid, endpoint=self.endpoint)
            self._on_change()


class Function:
    """A deployed function: its replicas, its output, and whoever waits for a replica to be ready."""

    def __init__(self, deployment: Deployment, log_lines: int) -> None:
        self.deployment = deployment
        self.created_at = datetime.now(UTC)
        self.logs = FunctionLogs(log_lines)
        self.replicas: list[Replica] = []
        self._changed = asyncio.Event()

    @property
    def endpoints(self) -> list[str]:
        """The URLs of the ready replicas."""
        return [replica.endpoint for replica in self.replicas if replica.ready]

    def changed(self) -> None:
        """A replica has become ready or stopped being so."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a replica is ready, at most `timeout_s`; whether one is."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.endpoints:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return bool(self.endpoints)


class Functions:
    """All deployed functions. Made by `functions`, which ends them on leaving."""

    def __init__(self, settings: ProviderSettings, environ: Mapping[str, str], tasks: asyncio.TaskGroup) -> None:
        self._settings = settings
        self._environ = environ
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._by_ref: dict[FunctionRef, Function] = {}
        self._numbers = itertools.count(1)

    def __iter__(self) -> Iterator[Function]:
        return iter(self._by_ref.values())

    def get(self, ref: FunctionRef) -> Function | None:
        """The function of that name, None when it is not deployed."""
        return self._by_ref.get(ref)

    def namespaces(self) -> list[str]:
        """The namespaces with functions, and the default one."""
        return sorted({self._settings.namespace, *(ref.namespace for ref in self._by_ref)})

    def deploy(self, deployment: Deployment) -> Function:
        """Start a function. Returns at once; its replica becomes ready later. Raises DeploymentError."""
        if deployment.ref in self._by_ref:
            raise DeploymentError(deployment.ref.name, f"is deployed already in {deployment.ref.namespace}")
        function = Function(deployment, self._settings.log_lines)
        self._add_replica(function)
        self._by_ref[deployment.ref] = function
        return function

    def _add_replica(self, function: Function) -> None:
        grace_s = self._settings.grace_period_s
        instance = f"{function.deployment.ref.name}-{secrets.token_hex(3)}"
        launched = launch(function.deployment, instance, self._environ, grace_period_s=grace_s)
        replica = Replica(instance, launched, function.logs, function.changed, grace_s=grace_s)
        function.replicas.append(replica)
        task = self._tasks.create_task(replica.run(), name=instance)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def end(self) -> None:
        """Ask every replica to end."""
        for task in self._running:
            task.cancel()


@asynccontextmanager
async def functions(settings: ProviderSettings, environ: Mapping[str, str]) -> AsyncIterator[Functions]:
    """Nothing deployed yet. Leaving ends all replicas, side by side, and waits for their end."""
    async with asyncio.TaskGroup() as tasks:
        running = Functions(settings, environ, tasks)
        try:
            yield running
        finally:
            running.end()
