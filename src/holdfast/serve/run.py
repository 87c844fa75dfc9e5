"""Start all parts, keep them running, stop them in order.

start   nats-server, then provider, workers and gateways together; ready when each says so on its /healthz
run     a part that ends is started again; its sockets stay open meanwhile, so nobody is refused
stop    gateways (no new calls), workers (finish or hand back), provider, nats-server
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from holdfast import lifecycle, sockets, telemetry
from holdfast.client.servers import forget_server, register_server
from holdfast.errors import PeerError, SettingError, StartError
from holdfast.exposition import count_in, forget_process
from holdfast.http1.client import ClientPool, Origin
from holdfast.http1.message import request_message
from holdfast.process import LineSink, Stream, supervise
from holdfast.queue import embedded
from holdfast.serve import parts, summary
from holdfast.serve.data_folder import DataFolder, open_data_folder, unusable
from holdfast.serve.options import ServeOptions
from holdfast.serve.parts import Listening, Part
from holdfast.settings import LogSettings

READY_TIMEOUT_S = 60.0
NATS_USER = "holdfast"

log = structlog.get_logger()


def run(options: ServeOptions) -> int:
    """Serve until asked to stop; gives the exit code."""
    telemetry.configure_logging(LogSettings.from_environment(), "serve")
    return lifecycle.run_part(lambda stop: _main(options, stop))


async def _main(options: ServeOptions, stop: asyncio.Event) -> None:
    with open_data_folder(options.data) as folder:
        if options.ready_file is not None:
            _try_to_write(options.ready_file)  # it may be in the data folder, which has just been made
        count_in(folder.metrics)
        listening = Listening.open(options)
        async with _supervisor(options, folder) as supervisor:
            nats_url = options.nats or await supervisor.start_nats()
            provider = parts.provider(options, folder, listening)
            workers = parts.workers(options, folder, listening, nats_url)
            gateways = parts.gateways(options, folder, listening, nats_url)
            ready = supervisor.begin([provider, *workers, *gateways])
            await lifecycle.until_stopped(stop, ready)
            if ready.done() and not stop.is_set():
                urls = summary.Urls(
                    gateway=listening.gateway_url,
                    metrics=sockets.url_of(listening.metrics),
                    provider=sockets.url_of(listening.provider),
                    nats=nats_url,
                )
                # Before the ready file: who waits for that may want the password next.
                entry = _register(urls.gateway, folder)
                try:
                    supervisor.announce(urls)
                    summary.show(urls, options, folder, listening)
                    await lifecycle.until_stopped(stop)
                finally:
                    if entry is not None:
                        forget_server(entry)
            ready.cancel()
            for group in (gateways, workers, [provider]):
                await supervisor.stop(group)


def _register(gateway_url: str, folder: DataFolder) -> Path | None:
    """Note this server for its user's commands. None when that cannot be: a service user often has no home folder."""
    try:
        return register_server(gateway_url, folder.root)
    except OSError as error:
        log.warning(
            "commands on this machine do not find this server's password by themselves: log in, or set XDG_STATE_HOME",
            folder=error.filename,
            error=error.strerror or str(error),
        )
        return None


class Supervisor:
    """Keeps parts running. Made by `_supervisor`, which stops on leaving whatever still runs."""

    def __init__(self, options: ServeOptions, folder: DataFolder, pool: ClientPool, tasks: asyncio.TaskGroup) -> None:
        self._options = options
        self._folder = folder
        self._pool = pool
        self._tasks = tasks
        self._running: dict[int, asyncio.Task[None]] = {}
        self._pids: dict[int, tuple[str, int]] = {}
        self._ready: set[int] = set()
        self._urls: summary.Urls | None = None

    async def start_nats(self) -> str:
        """Start the embedded nats-server; gives its URL once it can be used."""
        binary = embedded.find_binary()
        port = sockets.unlikely_port()
        password = secrets.token_urlsafe(16)
        try:
            config = embedded.write_config(self._folder.nats, port, NATS_USER, password, self._options.durability)
        except OSError as error:
            raise unusable(self._folder.root, error) from error
        part = Part("nats-server", embedded.argv(binary, config))
        self._keep_running(part, _nats_says)
        await embedded.wait_ready(port, timeout_s=READY_TIMEOUT_S)
        self._ready.add(id(part))
        return f"nats://{NATS_USER}:{password}@127.0.0.1:{port}"

    def begin(self, started: list[Part]) -> asyncio.Task[None]:
        """Start parts; done when all are ready. A part that does not become so ends everything with a StartError."""
        for part in started:
            self._keep_running(part)
        return self._tasks.create_task(self._all_ready(started), name="all ready")

    async def _all_ready(self, started: list[Part]) -> None:
        async with asyncio.TaskGroup() as waiting:
            for part in started:
                waiting.create_task(self._wait_ready(part))

    async def stop(self, stopped: list[Part]) -> None:
        """Stop parts together and return when they have ended."""
        tasks = [self._running[id(part)] for part in stopped if id(part) in self._running]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def announce(self, urls: summary.Urls) -> None:
        """From now on the ready file says where everything is."""
        self._urls = urls
        self._write_ready_file()

    def _keep_running(self, part: Part, on_line: LineSink | None = None) -> None:
        def on_start(pid: int) -> None:
            self._pids[id(part)] = (part.name, pid)
            if id(part) in self._ready:
                log.info("started again", name=part.name, pid=pid)
            self._write_ready_file()

        def on_exit(code: int) -> None:
            # None when not even a process could be started: there was no memory, or no descriptor, for it.
            _, pid = self._pids.pop(id(part), (part.name, None))
            if pid is not None:
                forget_process(pid, self._folder.metrics)
            if id(part) not in self._ready:
                raise StartError(f"{part.name} ended with code {code} before it was ready; its own words are above.")
            log.error("ended, starting it again", name=part.name, pid=pid, code=code)

        async def keep() -> None:
            await supervise(
                part.argv,
                environ={**part.defaults, **os.environ, **part.environ},
                on_line=on_line,
                pass_fds=[sock.fileno() for sock in part.sockets],
                on_start=on_start,
                on_exit=on_exit,
                grace_s=part.grace_s,
            )

        self._running[id(part)] = self._tasks.create_task(keep(), name=part.name)

    async def _wait_ready(self, part: Part) -> None:
        """Ask the part's /healthz once: its socket is open already, so the answer comes when the part is there."""
        assert part.health is not None  # noqa: S101 - only nats-server has none, and it is not started here
        origin = Origin.parse(part.health.removesuffix("/healthz"))
        request = request_message(b"GET", b"/healthz", [(b"Host", origin.netloc)], b"")
        try:
            answer = await self._pool.fetch(origin, request, timeout_s=READY_TIMEOUT_S, max_body_bytes=65536)
        except PeerError as error:
            raise StartError(f"{part.name} did not become ready: {error}") from error
        if answer.status != 200:
            raise StartError(f"{part.name} did not become ready: {answer.body.decode(errors='replace').strip()}")
        self._ready.add(id(part))

    def _write_ready_file(self) -> None:
        if self._urls is None or self._options.ready_file is None:
            return
        processes: dict[str, list[int]] = {}
        for name, pid in self._pids.values():
            processes.setdefault(name, []).append(pid)
        content = {**self._urls._asdict(), "pid": os.getpid(), "processes": processes}
        try:
            _write_whole(self._options.ready_file, json.dumps(content, indent=2) + "\n")
        except OSError as error:
            # It was tried at the start. What runs is worth more than the file that tells of it.
            log.error("the ready file cannot be written", path=str(self._options.ready_file), error=str(error))  # noqa: TRY400


def _nats_says(_stream: Stream, line: str) -> None:
    """What nats-server writes, as lines of our log."""
    level, text = embedded.heard(line)
    getattr(log, level)(text, name="nats-server")


@asynccontextmanager
async def _supervisor(options: ServeOptions, folder: DataFolder) -> AsyncIterator[Supervisor]:
    async with ClientPool() as pool, asyncio.TaskGroup() as tasks:
        supervisor = Supervisor(options, folder, pool, tasks)
        yield supervisor
        for task in supervisor._running.values():
            task.cancel()


def _try_to_write(path: Path) -> None:
    """Raises SettingError when the ready file could not be written: before anything starts, not when all is ready."""
    try:
        fresh = _beside(path)
        fresh.touch(mode=0o600)
        fresh.unlink()
    except OSError as error:
        expected = f"a file in a folder that is there and can be written ({error.strerror})"
        raise SettingError("--ready-file", str(path), expected) from error


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or none. Only for its owner: NATS's password stands in it."""
    fresh = _beside(path)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
