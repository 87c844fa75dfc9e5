"""The folder of one runtime: used by one provider at a time, with a mark by which its processes are known."""

from __future__ import annotations

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.errors import SettingError, StartError


def unusable(folder: Path, error: OSError) -> SettingError:
    """That the runtime's folder cannot be used."""
    return SettingError("provider_data", str(folder), f"a folder that can be written ({error.strerror or error})")


@contextmanager
def open_runtime(folder: Path) -> Iterator[str]:
    """Make and lock the folder while the context lasts; gives the runtime's mark, the same at every start.

    Raises SettingError when it cannot be written, StartError when another provider uses it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (folder / "runtime").open("a+")
    except OSError as error:
        raise unusable(folder, error) from error
    with file:
        try:
            # The kernel drops the lock when this process ends, however it ends.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(
                f"another provider uses the folder {folder}: stop it, or name another with provider_data"
            ) from None
        file.seek(0)
        mark = file.read().strip()
        if not mark:
            # Not the folder's name: another container may have a folder of the same name, and its processes show here.
            mark = secrets.token_hex(8)
            file.write(mark + "\n")
            file.flush()
        yield mark
