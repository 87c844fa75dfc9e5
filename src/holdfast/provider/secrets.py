"""Secrets: files that functions read and the API never shows.

    <folder>/<namespace>/<name>    0600, written whole or not at all

Each replica is given a folder of its own with copies of its function's secrets, named by SECRETS_VARIABLE in its
environment: /var/openfaas/secrets, where OpenFaaS mounts them, belongs to the machine and not to one function.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from holdfast.errors import DeploymentError

SECRETS_VARIABLE = "HOLDFAST_SECRETS"


class Secrets:
    """The secrets of all namespaces, in one folder. Names are checked by documents.py before they come here."""

    def __init__(self, folder: Path) -> None:
        self._kept = folder / "secrets"
        self._given = folder / "functions"
        # What functions had in the last run is not theirs any more.
        shutil.rmtree(self._given, ignore_errors=True)

    def names(self, namespace: str) -> list[str]:
        """The names in a namespace, sorted."""
        place = self._kept / namespace
        return sorted(path.name for path in place.iterdir() if not path.name.startswith(".")) if place.is_dir() else []

    def has(self, namespace: str, name: str) -> bool:
        """Whether there is one of that name, which may be one that no file can have."""
        try:
            return (self._kept / namespace / name).is_file()
        except OSError:
            return False

    def put(self, namespace: str, name: str, value: bytes) -> None:
        """Keep a value in place of the one before."""
        _write(self._kept / namespace / name, value)

    def remove(self, namespace: str, name: str) -> bool:
        """Forget one; whether there was one."""
        try:
            (self._kept / namespace / name).unlink()
        except FileNotFoundError:
            return False
        return True

    def give(self, namespace: str, instance: str, names: tuple[str, ...]) -> Path | None:
        """Copy secrets into a replica's own folder; gives it, None without secrets. Raises DeploymentError.

        A folder for each replica: the one that starts must not take files from those that run, perhaps of the
        version before. `take_back` removes it.
        """
        if not names:
            return None
        self.check(namespace, instance, names)
        folder = self._given / namespace / instance
        try:
            for name in names:
                _write(folder / name, (self._kept / namespace / name).read_bytes())
        except OSError as error:
            self.take_back(namespace, instance)
            raise DeploymentError(instance, f"its secrets cannot be copied: {error.strerror}") from error
        return folder

    def take_back(self, namespace: str, instance: str) -> None:
        """Remove a replica's copies, if it has any."""
        shutil.rmtree(self._given / namespace / instance, ignore_errors=True)

    def check(self, namespace: str, function: str, names: tuple[str, ...]) -> None:
        """Raises DeploymentError when one of the names is no secret."""
        missing = [name for name in names if not name or "/" in name or not self.has(namespace, name)]
        if missing:
            raise DeploymentError(
                function, f"there is no secret {', '.join(map(repr, missing))} in {namespace}: create it first"
            )


def _write(path: Path, value: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Not made from the secret's name: one of 253 letters leaves no room for more in a file's name.
    fresh = path.with_name(f".{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(value)
    fresh.replace(path)
