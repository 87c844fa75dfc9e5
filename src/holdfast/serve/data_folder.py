"""The data folder of `holdfast serve`: what lies where, who may read it, and that only one server uses it."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast import exposition
from holdfast.basic_auth import PASSWORD_FILE, USER_FILE
from holdfast.errors import SettingError, StartError

USER = "admin"
PASSWORD_BYTES = 24


class DataFolder:
    """The paths in a data folder. Made by `open_data_folder`, which also creates what is missing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nats = root / "nats"
        self.provider = root / "provider"
        self.secrets = root / "secrets"
        self.metrics = root / "metrics"
        self.password_file = self.secrets / PASSWORD_FILE

    def make(self) -> None:
        """Create folders, user and password, only for their owner; keep of the last run's metrics what was counted."""
        for folder in (self.root, self.nats, self.provider, self.secrets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        exposition.carry_over(self.metrics)
        self._keep(self.secrets / USER_FILE, USER)
        self._keep(self.password_file, secrets.token_urlsafe(PASSWORD_BYTES))

    @staticmethod
    def _keep(path: Path, text: str) -> None:
        """Write a secret unless there is one."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")


@contextmanager
def open_data_folder(path: Path) -> Iterator[DataFolder]:
    """The folder, made ready and locked while the context lasts.

    Raises SettingError when it cannot be written, StartError when another server uses it.
    """
    try:
        folder = DataFolder(path.resolve())
        folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder.root / "lock").open("w")
    except OSError as error:
        raise unusable(path, error) from error
    with lock:
        try:
            # The kernel drops the lock when this process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(
                f"another holdfast serve uses the data folder {folder.root}: stop it, or name another with --data."
            ) from None
        try:
            folder.make()
        except OSError as error:
            raise unusable(folder.root, error) from error
        yield folder


def unusable(path: Path, error: OSError) -> SettingError:
    """That a data folder cannot be used, for the user who named it or left it to us to name."""
    return SettingError("--data", str(path), f"a folder that can be written ({error.strerror or error})")
