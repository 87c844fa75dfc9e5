"""The secrets that callbacks are signed with: read from a file or a folder, and again while the worker runs.

So a secret is rotated without a restart: add the new line above the old one, give the new secret to the receivers,
take the old line out. How they are used is signature.py's.
"""

from __future__ import annotations

import time
from pathlib import Path

import structlog

from holdfast.errors import SettingError
from holdfast.worker.signature import read_secrets

READ_AGAIN_S = 10.0
"""How long what was read is used. Reading a small file costs about 20 µs."""

_EXPECTED = "a file, or a folder of files, with one secret on each line: whsec_ and base64"

log = structlog.get_logger()


class SigningSecrets:
    """The secrets of one worker, the newest first."""

    def __init__(self, path: Path) -> None:
        """Read them. Raises SettingError: a worker that was told to sign does not start to send unsigned callbacks."""
        self._path = path
        try:
            self._keys = _read(path)
        except (OSError, ValueError) as error:
            raise SettingError("callback_signing_secret_path", str(path), f"{_EXPECTED}; {_why(error)}") from error
        self._fresh_until = time.monotonic() + READ_AGAIN_S

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys as they are now, at most READ_AGAIN_S old; the last good ones while they cannot be read."""
        if time.monotonic() >= self._fresh_until:
            self._fresh_until = time.monotonic() + READ_AGAIN_S
            self.read_again()
        return self._keys

    def read_again(self) -> None:
        """Read them now; what cannot be used changes nothing and is logged."""
        try:
            keys = _read(self._path)
        except (OSError, ValueError) as error:
            log.error("signing secrets cannot be read, going on with the last", path=str(self._path), error=_why(error))  # noqa: TRY400 - no trace: it may hold a secret
            return
        if keys != self._keys:
            log.info("signing secrets changed", path=str(self._path), secrets=len(keys))
            self._keys = keys


def _read(path: Path) -> tuple[bytes, ...]:
    # A folder's files in the order of their names; what begins with a dot is not ours, Kubernetes keeps links there.
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())
    keys = tuple(key for file in files for key in read_secrets(file.read_text("ascii")))
    if not keys:
        raise ValueError("there is no secret in it")
    return keys


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    # A UnicodeDecodeError quotes what it could not read.
    return "it is not ASCII" if isinstance(error, UnicodeError) else str(error)
