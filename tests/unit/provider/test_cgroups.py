from pathlib import Path

import pytest

from holdfast.errors import SettingError
from holdfast.provider.cgroups import (
    Groups,
    NoGroups,
    entering,
    killed_for_memory,
    limit_files,
    open_groups,
    own_group,
    remove,
)
from holdfast.provider.limits import Limits

BOTH = frozenset({"cpu", "memory"})
V2 = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "36 24 0:31 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with the files of a group that a real kernel would have there."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.procs").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("limits", "files"),
    [
        (Limits(), {}),
        (
            Limits(memory_bytes=40 * 2**20),
            {"memory.max": "41943040", "memory.swap.max": "0", "memory.oom.group": "1"},
        ),
        (Limits(millicores=500), {"cpu.max": "50000 100000"}),
        (Limits(millicores=2500), {"cpu.max": "250000 100000"}),
        (Limits(millicores=1), {"cpu.max": "1000 100000"}),
    ],
)
def test_limits_become_the_kernels_files(limits: Limits, files: dict[str, str]) -> None:
    assert limit_files(limits, BOTH) == files


def test_a_controller_that_is_not_there_is_not_written_to() -> None:
    limits = Limits(memory_bytes=1, millicores=1)
    assert set(limit_files(limits, frozenset({"cpu"}))) == {"cpu.max"}
    assert "cpu.max" not in limit_files(limits, frozenset({"memory"}))
    assert limit_files(limits, frozenset()) == {}


@pytest.mark.parametrize(
    ("memberships", "mounts", "group"),
    [
        ("0::/system.slice/holdfast.service\n", V2, "/sys/fs/cgroup/system.slice/holdfast.service"),
        ("0::/\n", V2, "/sys/fs/cgroup"),
        # A container's view: its own group is the root of what is mounted.
        ("0::/a/b\n", V2.replace(" / /sys", " /a /sys"), "/sys/fs/cgroup/b"),
        ("0::/../elsewhere\n", V2.replace(" / /sys", " /a /sys"), None),
        ("4:memory:/x\n0::/y\n", f"{V1}\n{V2}\n", "/sys/fs/cgroup/y"),
        ("4:memory:/x\n", f"{V1}\n{V2}\n", None),
        ("0::/y\n", V1, None),
        ("", "", None),
    ],
)
def test_the_own_group_is_found_in_the_second_version_only(memberships: str, mounts: str, group: str | None) -> None:
    assert own_group(memberships, mounts) == (None if group is None else Path(group))


def test_a_base_hands_on_its_controllers_and_gets_a_group_for_each_replica(base: Path) -> None:
    groups = open_groups(str(base), "m")
    assert groups.controllers == BOTH
    assert (base / "cgroup.subtree_control").read_text() == "+cpu +memory"
    group = groups.make("f-1", Limits(memory_bytes=1000, millicores=100))
    assert group == base / "fn-m-f-1"
    assert {path.name: path.read_text() for path in group.iterdir()} == {
        "memory.max": "1000",
        "memory.oom.group": "1",
        "cpu.max": "10000 100000",
    }


def test_without_limits_a_replica_has_a_group_all_the_same(base: Path) -> None:
    group = Groups(base, BOTH, "m").make("f-1", Limits())
    assert list(group.iterdir()) == []
    remove(group)
    assert not group.exists()


def test_groups_of_an_earlier_run_are_removed(base: Path) -> None:
    (base / "fn-m-old-1").mkdir()
    (base / "fn-n-old-1").mkdir()
    open_groups(str(base), "m")
    assert not (base / "fn-m-old-1").exists()
    assert (base / "fn-n-old-1").exists(), "another runtime's"


def test_a_base_whose_processes_stay_is_not_used(base: Path) -> None:
    (base / "cgroup.procs").write_text("1234567\n")
    with pytest.raises(SettingError, match="does not become empty"):
        open_groups(str(base), "m")
    assert (base / "holdfast" / "cgroup.procs").read_text() == "1234567"


@pytest.mark.parametrize("controllers", [None, "", "pids io"])
def test_a_folder_that_is_no_group_with_the_controllers_is_a_setting_error(
    tmp_path: Path, controllers: str | None
) -> None:
    if controllers is not None:
        (tmp_path / "cgroup.controllers").write_text(controllers)
    with pytest.raises(SettingError, match="function_cgroup="):
        open_groups(str(tmp_path), "m")


def test_none_means_that_no_groups_are_used() -> None:
    with pytest.raises(NoGroups, match="function_cgroup is none"):
        open_groups("none", "m")


def test_a_command_enters_its_group_before_it_begins() -> None:
    argv = entering(Path("/g"), ["python", "-m", "x y"])
    assert argv[:2] == ("/bin/sh", "-c")
    assert argv[3:] == ("/g", "python", "-m", "x y")


def test_what_the_kernel_killed_for_memory_is_counted(tmp_path: Path) -> None:
    assert killed_for_memory(tmp_path) == 0
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 1\n")
    assert killed_for_memory(tmp_path) == 2
