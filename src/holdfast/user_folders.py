"""The folders of the user who runs this, by the XDG rules; a service user may have none. No file is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import platformdirs


def data_folder() -> Path | None:
    """Where data is kept; None without HOME, XDG_DATA_HOME and an entry in passwd(5)."""
    return _ours(platformdirs.user_data_dir)


def state_folder() -> Path | None:
    """Where is kept what may be lost; None without HOME, XDG_STATE_HOME and an entry in passwd(5)."""
    return _ours(platformdirs.user_state_dir)


def _ours(folder: Callable[[str], str]) -> Path | None:
    try:
        path = Path(folder("holdfast"))
    except RuntimeError:
        return None
    # Older versions of the library leave `~` as it is when there is no home folder.
    return path if path.is_absolute() else None
