"""Versions before this one, run beside it: wheels from tests/upgrade/versions, unpacked and first on PYTHONPATH.

Which of the two a process runs is decided by its environment alone, and its children inherit that. What an old version
says of itself gets MARK added, so that a test can see who served it also when both have the same number.
"""

from __future__ import annotations

import compileall
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

KEPT = Path(__file__).parents[1] / "upgrade" / "versions"
MARK = "+kept"


@dataclass(frozen=True)
class OldVersion:
    """One that is unpacked."""

    name: str
    """As it calls itself here: `0.1.0+kept`."""
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """What a process is started with to run this version instead of the present one."""
        return {"PYTHONPATH": os.pathsep.join(filter(None, (str(self.folder), os.environ.get("PYTHONPATH", ""))))}


def wheels() -> list[Path]:
    """All that are kept."""
    return sorted(KEPT.glob("holdfast-*.whl"))


def unpack(wheel: Path, folder: Path) -> OldVersion:
    """Unpack a wheel into an empty folder, and mark it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    number = wheel.name.split("-")[1]
    module = folder / "holdfast" / "__init__.py"
    text = module.read_text()
    assert text.count(f'"{number}"') == 1, text
    module.write_text(text.replace(f'"{number}"', f'"{number}{MARK}"'))
    # Once, and not by each of the processes that start together.
    compileall.compile_dir(folder, quiet=2)
    return OldVersion(number + MARK, folder)
