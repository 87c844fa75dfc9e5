"""One replica: a watchdog behind a socket of its own, started again whenever it ends.

The socket is bound here and outlives the process, so a replica keeps its address when it is started again, and callers
who come meanwhile wait in the socket's backlog. How many replicas there are is decided in replicas.py.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn

import structlog

from holdfast import sockets
from holdfast.errors import StartError
from holdfast.function import FunctionRef
from holdfast.process import Stream, supervise
from holdfast.provider.confinement import Confinement
from holdfast.provider.deployments import Endpoint, Launch
from holdfast.provider.endings import LastError, LastWords, how_it_ended, still_starting, with_words
from holdfast.provider.logs import FunctionLogs
from holdfast.provider.reports import Reported, Reports
from holdfast.settings import WatchdogSettings
from holdfast.unexpected import Work, guarded

# Beyond the watchdog's own grace period, so that it ends by itself.
GRACE_MARGIN_S = 2.0

log = structlog.get_logger()


class Replica:
    """One watchdog process, started again whenever it ends."""

    def __init__(
        self,
        ref: FunctionRef,
        instance: str,
        launched: Launch,
        confinement: Confinement,
        logs: FunctionLogs,
        *,
        on_change: Callable[[], None],
        on_load: Callable[[Reported], None],
        host: str,
        announce: str,
        grace_s: float,
    ) -> None:
        """`host` is what it listens on, `announce` by what others call that. Raises StartError."""
        self.instance = instance
        self.pid: int | None = None
        self.ready: bool = False
        self.leaving: bool = False
        """Whether it is about to be ended: nobody is told of it any more."""
        self.restarts = 0
        """How often its process ended without being asked to."""
        self._launch = launched
        self._confinement = confinement
        self._logs = logs
        self._on_change = on_change
        self._on_load = on_load
        self._grace_s = grace_s
        self._reports = Reports()
        self._started_at = 0.0
        self._words = LastWords()
        self._ended: LastError | None = None
        self._refused = ""
        self._log = log.bind(instance=instance)
        self._socket = sockets.listen(host, 0, purpose="function", option="nothing: no port is free")
        self._local = sockets.listen_local()
        # The word by chance: a replica of the same name may have been on the same port before this provider started.
        self.endpoint = Endpoint(
            sockets.url_at(announce, self._socket),
            sockets.local_url(self._local) if self._local else "",
            f"{ref}/{instance}/{secrets.token_hex(8)}",
        )
        self.exec_timeout_s = WatchdogSettings.from_environment(launched.environ).exec_timeout_s

    @property
    def running(self) -> int:
        """Calls that run, as its process said last."""
        return self._reports.running

    async def run(self) -> NoReturn:
        """Keep the process running until cancelled, which ends it in order."""
        loop = asyncio.get_running_loop()
        # One pipe for all its lives. Each says its process id, so that a late word of a dead one is not believed.
        read_end, write_end = os.pipe()
        loop.add_reader(read_end, self._hear, read_end)
        descriptors = {WatchdogSettings.LISTEN_FD: self._socket.fileno(), WatchdogSettings.READY_FD: write_end}
        if self._local is not None:
            descriptors[WatchdogSettings.LOCAL_FD] = self._local.fileno()
        try:
            await supervise(
                self._confinement.argv(self._launch.argv),
                environ={
                    **self._launch.environ,
                    **self._confinement.environ,
                    **{name: str(number) for name, number in descriptors.items()},
                    WatchdogSettings.INSTANCE: self.endpoint.instance,
                },
                cwd=self._launch.cwd,
                on_line=self._on_line,
                pass_fds=tuple(descriptors.values()),
                on_start=self._on_start,
                on_refused=self._on_refused,
                on_exit=self._on_exit,
                after_exit=self._confinement.clear,
                grace_s=self._grace_s + GRACE_MARGIN_S,
            )
        finally:
            loop.remove_reader(read_end)
            os.close(read_end)
            os.close(write_end)
            self._socket.close()
            if self._local is not None:
                self._local.close()
            self.pid = None
            self._reports.started()
            self.ready = False
            self._on_change()
            await self._confinement.end()

    @property
    def last_error(self) -> LastError | None:
        """How its process ended last, or that it does not become ready."""
        waiting = "" if self.ready or self.pid is None else still_starting(time.monotonic() - self._started_at)
        if self._ended is None and waiting:
            return LastError(datetime.now(UTC), self.instance, with_words(waiting, self._words.text()))
        return self._ended

    def failed(self, reason: str) -> None:
        """It cannot run at all."""
        self._log.error("replica cannot be started", error=reason)
        self._logs.append(self.instance, f"[error] {reason}")
        self._ended = LastError(datetime.now(UTC), self.instance, reason)
        self.restarts += 1
        self._on_change()

    def _on_refused(self, error: StartError) -> None:
        self._refused = str(error)
        self._words.clear()

    def _on_start(self, pid: int) -> None:
        self.pid = pid
        self._refused = ""
        self._reports.started()
        self._started_at = time.monotonic()
        self._words.clear()
        self._confinement.started(pid)
        self._log.info("replica started", pid=pid)
        self._update()

    @guarded(Work.REPLICAS)
    def _hear(self, read_end: int) -> None:
        was_running = self.running
        reported = self._reports.feed(os.read(read_end, 4096), self.pid)
        if reported is not None:
            self._on_load(reported)
        if was_running and not self.running:
            self._on_change()
        self._update()

    def _on_exit(self, code: int) -> None:
        how = how_it_ended(code, self._confinement.ended() or self._refused, was_ready=self.ready)
        self._log.error(
            "replica ended, starting it again", pid=self.pid, code=code, reason=how, last_line=self._words.last[:200]
        )
        self._ended = LastError(datetime.now(UTC), self.instance, with_words(how, self._words.text()))
        self._logs.append(self.instance, f"[error] {how}; it is started again")
        self.pid = None
        self._reports.started()
        self.restarts += 1
        self.ready = False
        self._on_change()

    def _on_line(self, _stream: Stream, line: str) -> None:
        self._words.add(line)
        self._logs.append(self.instance, line)

    def _update(self) -> None:
        ready = self.pid is not None and self.pid == self._reports.ready_pid
        if ready != self.ready:
            self.ready = ready
            if ready:
                self._log.info("replica ready", pid=self.pid, endpoint=self.endpoint.url)
            self._on_change()
