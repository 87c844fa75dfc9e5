"""What holds a replica's processes: its limits, and that none of them outlives it.

With control groups the kernel does both (cgroups.py). Without, memory is looked at each second (memory.py), processor
time is not limited, and what is left behind is found by its mark (leftovers.py).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import structlog

from holdfast.errors import StartError
from holdfast.process import signal_group
from holdfast.provider import cgroups
from holdfast.provider.leftovers import MARK, Leftovers, kill_marked
from holdfast.provider.limits import Limits, limits_of, mebibytes, warnings
from holdfast.provider.memory import Use, over_limit
from holdfast.stack import Deployment
from holdfast.unexpected import Work, forever

LOOK_S = 1.0
FIRST_TO_GO = "500"
# Of -1000 to 1000 (proc(5), oom_score_adj): when the machine's memory runs out, functions end before NATS and gateways.

log = structlog.get_logger()


class Confinement:
    """Of one replica, over all lives of its process. Made by `Confinements.of`; `end` it."""

    def __init__(self, owner: Confinements, instance: str, limits: Limits, shown_limit: str) -> None:
        self.limits = limits
        self.pid: int | None = None
        self.environ = owner.environ
        self._owner = owner
        self._instance = instance
        self._shown_limit = shown_limit
        self._group: Path | None = None
        self._killed_before = 0
        self._reason = ""

    def argv(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The command that runs `argv` held. Raises StartError when its group cannot be made."""
        groups = self._owner.groups
        if groups is None:
            return tuple(argv)
        try:
            self._group = groups.make(self._instance, self.limits)
        except OSError as error:
            raise StartError(f"no control group can be made for {self._instance}: {error}") from error
        return cgroups.entering(self._group, argv)

    def started(self, pid: int) -> None:
        """A process of the replica has begun."""
        self.pid = pid
        self._reason = ""
        with suppress(OSError):  # not Linux, or it stands higher already
            Path(f"/proc/{pid}/oom_score_adj").write_text(FIRST_TO_GO)
        if self._group is not None:
            self._killed_before = cgroups.killed_for_memory(self._group)
        self._owner.started(self)

    def ended(self) -> str:
        """The replica's process has ended: why, if it was because of a limit; else an empty text."""
        self.pid = None
        if self._group is not None and cgroups.killed_for_memory(self._group) > self._killed_before:
            return f"the memory limit of {self._shown_limit} was exceeded: the kernel stopped the replica"
        return self._reason

    async def clear(self) -> None:
        """Kill what the replica's process has left behind; before its next one begins."""
        if self._group is not None:
            await asyncio.to_thread(cgroups.kill, self._group)
        else:
            await self._owner.leftovers.clear(self._instance)

    async def end(self) -> None:
        """The replica runs no more."""
        self.pid = None
        self._owner.forget(self)
        await self.clear()
        if self._group is not None:
            await asyncio.to_thread(cgroups.remove, self._group)

    def stop_for_memory(self, use: Use) -> None:
        """Kill the replica's processes: they use more memory than they may."""
        assert self.pid is not None  # noqa: S101 - it was asked about with its process id
        number = len(use.processes)
        self._reason = (
            f"the memory limit of {self._shown_limit} was exceeded: {mebibytes(use.size)} "
            f"in {number} process{'' if number == 1 else 'es'}, the replica was stopped"
        )
        signal_group(self.pid, signal.SIGKILL)
        for process in use.processes:
            with suppress(psutil.Error):
                process.kill()


class Confinements:
    """Makes those of all replicas. Get it from `confinements`."""

    def __init__(self, groups: cgroups.Groups | None, unlimited: str, mark: str) -> None:
        """`unlimited` says why there are no groups."""
        self.groups = groups
        self.leftovers = Leftovers(mark)
        self.environ = {MARK: mark}
        """What the environment of every process has to have."""
        self._processor_free = ""
        if groups is None or "cpu" not in groups.controllers:
            self._processor_free = unlimited or "its control groups have no cpu controller"
        self._looks_at_memory = groups is None or "memory" not in groups.controllers
        self._limited: set[Confinement] = set()
        self._any_limited = asyncio.Event()

    def of(self, instance: str, deployment: Deployment) -> Confinement:
        """That of a new replica. Raises DeploymentError for limits that are no quantities."""
        given = deployment.limits
        return Confinement(self, instance, limits_of(deployment), given.memory if given is not None else "")

    def warnings(self, deployment: Deployment) -> tuple[str, ...]:
        """What whoever deploys should know of its limits. Raises DeploymentError for those that are no quantities."""
        return warnings(deployment, processor_free=self._processor_free)

    def started(self, confinement: Confinement) -> None:
        """A process runs whose memory may have to be looked at."""
        if self._looks_at_memory and confinement.limits.memory_bytes:
            self._limited.add(confinement)
            self._any_limited.set()

    def forget(self, confinement: Confinement) -> None:
        """A replica runs no more."""
        self._limited.discard(confinement)
        if not self._limited:
            self._any_limited.clear()

    async def watch_memory(self) -> None:
        """Look each second, for ever, as long as there is something to look at. The kernel tells of no event here."""
        await forever(Work.MEMORY, self._look_at_memory)

    async def _look_at_memory(self) -> None:
        await self._any_limited.wait()
        await asyncio.sleep(LOOK_S)
        running = {one.pid: one for one in self._limited if one.pid is not None}
        limits = {pid: one.limits.memory_bytes for pid, one in running.items()}
        for pid, use in (await asyncio.to_thread(over_limit, limits)).items():
            if running[pid].pid == pid:  # it may have ended meanwhile
                running[pid].stop_for_memory(use)


@asynccontextmanager
async def confinements(setting: str, mark: str) -> AsyncIterator[Confinements]:
    """Find out what this machine offers, and end what an earlier run of this runtime has left.

    Raises SettingError when `setting`, which is `function_cgroup`, names a folder that cannot be used.
    """
    killed = await asyncio.to_thread(kill_marked, mark)
    if killed:
        log.warning("processes of an earlier run were still there and were killed", processes=killed)
    groups, unlimited = None, ""
    try:
        groups = await asyncio.to_thread(cgroups.open_groups, setting, mark)
        log.info("limits are enforced by the kernel", cgroup=str(groups.base), of=sorted(groups.controllers))
    except cgroups.NoGroups as error:
        unlimited = str(error)
        log.info("memory limits are looked at each second, cpu limits are not enforced", reason=unlimited)
    made = Confinements(groups, unlimited, mark)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(made.watch_memory(), name="watch memory")
        try:
            yield made
        finally:
            watching.cancel()
