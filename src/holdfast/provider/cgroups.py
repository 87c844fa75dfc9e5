"""Control groups of the kernel, version 2: one for each replica, with its limits, where Holdfast may make them.

    <base>/holdfast                   the processes that were in <base>, for a group that hands controllers on has none
    <base>/fn-<runtime>-<instance>    a replica and everything it started

Holdfast may where systemd has delegated it the group it runs in (`Delegate=yes`), or in the folder that the setting
`function_cgroup` names. Names and values of the files: https://docs.kernel.org/admin-guide/cgroup-v2.html. Groups of
version 1 belong to the machine and are left alone. What is done where there are no groups stands in confinement.py.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from holdfast.errors import SettingError
from holdfast.provider.limits import Limits

SETTING = "function_cgroup"
OWN = "holdfast"
PREFIX = "fn-"

PERIOD_US = 100_000
# The kernel's own default; a group that has used up its part of one waits for the next.
LEAST_QUOTA_US = 1_000
# The kernel refuses less.
EMPTY_WAIT_S = 2.0
# For processes that were killed to be gone.
MOST_PASSES = 10
# Moving processes away, which may be starting others meanwhile.

NOT_DELEGATED = "there is no cgroup v2 that Holdfast may use"


class NoGroups(Exception):
    """Holdfast may make no groups here; the text says why."""


def limit_files(limits: Limits, controllers: frozenset[str]) -> dict[str, str]:
    """Which file of a group gets which text. No I/O."""
    files = {}
    if limits.memory_bytes and "memory" in controllers:
        files["memory.max"] = str(limits.memory_bytes)
        files["memory.swap.max"] = "0"  # else the limit would only decide what is swapped out
        files["memory.oom.group"] = "1"  # a replica ends as a whole, not by a process that others wait for
    if limits.millicores and "cpu" in controllers:
        quota = max(limits.millicores * PERIOD_US // 1000, LEAST_QUOTA_US)
        files["cpu.max"] = f"{quota} {PERIOD_US}"
    return files


def own_group(memberships: str, mounts: str) -> Path | None:
    """The folder of this process's group by the texts of /proc/self/cgroup and mountinfo; None without v2. No I/O."""
    paths = [line[3:] for line in memberships.splitlines() if line.startswith("0::/")]
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if paths and after.startswith("cgroup2 "):
            root, mount_point = before.split(" ")[3:5]
            with suppress(ValueError):
                return Path(mount_point) / Path(paths[0]).relative_to(root)
    return None


def entering(group: Path, argv: Sequence[str]) -> tuple[str, ...]:
    """A command that enters a group and then becomes `argv`, under the same process id. No I/O."""
    return ("/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(group), *argv)


class Groups:
    """A base under which groups can be made. Made by `open_groups`."""

    def __init__(self, base: Path, controllers: frozenset[str], mark: str) -> None:
        """`mark` is the runtime's own: several may share a base."""
        self.base = base
        self._prefix = f"{PREFIX}{mark}-"
        self.controllers = controllers
        """Which of `memory` and `cpu` it can limit."""

    def make(self, instance: str, limits: Limits) -> Path:
        """A group with limits, still empty. Raises OSError."""
        group = self.base / f"{self._prefix}{instance}"
        group.mkdir(exist_ok=True)
        for name, text in limit_files(limits, self.controllers).items():
            path = group / name
            if name != "memory.swap.max" or path.exists():  # a kernel may be built without swap
                path.write_text(text)
        return group

    def remove_left(self) -> None:
        """Remove what an earlier run has left, with the processes in it."""
        for group in self.base.glob(f"{self._prefix}*"):
            remove(group)


def open_groups(setting: str, mark: str) -> Groups:
    """Find the base and see that it works. Raises NoGroups, or SettingError when the setting names a folder."""
    if setting == "none":
        raise NoGroups(f"{SETTING} is none")
    named = setting != "auto"
    try:
        return _prepared(Path(setting) if named else _delegated(), mark)
    except (NoGroups, OSError, subprocess.SubprocessError) as error:
        if not named:
            raise NoGroups(str(error)) from error
        raise SettingError(
            SETTING, setting, f"auto, none or the folder of a cgroup v2 that belongs to Holdfast; {error}"
        ) from error


def _delegated() -> Path:
    """The group that systemd has handed over: the own one, or that above it (`DelegateSubgroup=`)."""
    try:
        own = own_group(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    except OSError as error:
        raise NoGroups(NOT_DELEGATED) from error
    for group in () if own is None else (own, own.parent):
        for attribute in ("user.delegate", "trusted.delegate"):
            with suppress(OSError):
                if os.getxattr(group, attribute) == b"1":
                    return group
    raise NoGroups(f"{NOT_DELEGATED} (systemd: Delegate=yes)")


def _prepared(base: Path, mark: str) -> Groups:
    found = frozenset((base / "cgroup.controllers").read_text().split()) & {"memory", "cpu"}
    if not found:
        raise NoGroups(f"{base} has neither the memory nor the cpu controller")
    _move_away(base)
    (base / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(found)))
    groups = Groups(base, found, mark)
    groups.remove_left()
    probe = groups.make("probe", Limits(memory_bytes=2**30, millicores=1000))
    try:
        subprocess.run(  # noqa: S603 - our own words
            entering(probe, ["/bin/sh", "-c", ":"]), check=True, capture_output=True, timeout=10
        )
    finally:
        remove(probe)
    return groups


def _move_away(base: Path) -> None:
    """Move the processes in the base into a group below it. Some of them are other parts of the same `serve`."""
    for _ in range(MOST_PASSES):
        pids = (base / "cgroup.procs").read_text().split()
        if not pids:
            return
        (base / OWN).mkdir(exist_ok=True)
        for pid in pids:
            with suppress(ProcessLookupError):
                (base / OWN / "cgroup.procs").write_text(pid)
    raise NoGroups(f"{base} does not become empty")


def killed_for_memory(group: Path) -> int:
    """How many processes of a group the kernel has killed because they wanted more memory than the limit."""
    return _counts(group / "memory.events").get("oom_kill", 0)


def kill(group: Path) -> None:
    """Kill everything in a group and wait until it is gone; blocks, at most EMPTY_WAIT_S."""
    try:
        with (group / "cgroup.kill").open("r+") as file:
            file.write("1")
    except OSError:  # before Linux 5.14
        with suppress(OSError):
            for pid in (group / "cgroup.procs").read_text().split():
                if pid != "0":  # a process of another namespace; to kill(2) it means this process's own group
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
    deadline = time.monotonic() + EMPTY_WAIT_S
    with suppress(OSError), (group / "cgroup.events").open() as events:
        changes = select.poll()
        changes.register(events, select.POLLPRI)
        # A change is told to whoever has read the file since the one before.
        while "populated 1" in events.read() and (left_s := deadline - time.monotonic()) > 0:
            changes.poll(left_s * 1000)
            events.seek(0)


def remove(group: Path) -> None:
    """Kill everything in a group and remove it; one that does not go is left for the next start."""
    kill(group)
    with suppress(OSError):
        group.rmdir()


def _counts(path: Path) -> Mapping[str, int]:
    """The content of a file of `name number` lines; empty when it is not there."""
    try:
        pairs = [line.split(" ") for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {name: int(number) for name, number in pairs}
