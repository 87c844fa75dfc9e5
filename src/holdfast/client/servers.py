"""The register of servers that run on this machine for this user: one small file per port.

`holdfast serve` writes its entry when it is ready and removes it when it ends; a client finds there the data folder,
and in it the password, so that commands on the same machine need no login. Holds no secret itself.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from holdfast.user_folders import state_folder

# One place under several names: what listens on one of these answers on 127.0.0.1 as well, or on none that we register.
_THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0", "::"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Server(NamedTuple):
    """A server on this machine that was alive when its entry was read."""

    gateway: str
    data: Path
    pid: int

    @property
    def secrets(self) -> Path:
        """The folder of basic-auth-user and basic-auth-password."""
        return self.data / "secrets"


def register_server(gateway_url: str, data: Path) -> Path:
    """Note that this process serves `gateway_url` from `data`. Gives the entry's path, for `forget_server`.

    An older entry for the port is replaced: its server is gone, or this one could not have taken the port. Raises
    OSError when there is no folder for it, or none that can be written.
    """
    folder = _folder()
    if folder is None:
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{_port(gateway_url)}.json"
    entry = {
        "gateway": gateway_url,
        "data": str(data.resolve()),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
    }
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(json.dumps(entry), encoding="utf-8")
    fresh.replace(path)
    return path


def forget_server(path: Path) -> None:
    """Remove this process's entry; another process's, and a missing one, are left as they are."""
    with suppress(OSError, ValueError):
        if json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid():
            path.unlink()


def find_server(gateway_url: str) -> Server | None:
    """The running server behind a gateway's URL; None when it is not on this machine, not this user's, or has ended."""
    folder = _folder()
    if folder is None:
        return None
    try:
        entry = json.loads((folder / f"{_port(gateway_url)}.json").read_text(encoding="utf-8"))
        server = Server(entry["gateway"], Path(entry["data"]), entry["pid"])
        # A number is used again once its process has ended: the same number and the same start is the same process.
        # Otherwise whatever has taken the port since would be sent the password.
        if psutil.Process(server.pid).create_time() != entry["started"]:
            return None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return server if same_gateway(server.gateway, gateway_url) else None


def same_gateway(one: str, other: str) -> bool:
    """Whether two URLs name one gateway: the spelling of this machine's name, a default port and a `/` do not count."""
    return _place(one) == _place(other)


def _place(url: str) -> tuple[str, str, int, str]:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return (
        parts.scheme.lower(),
        "127.0.0.1" if host in _THIS_MACHINE else host,
        _port(url),
        parts.path.rstrip("/"),
    )


def _port(url: str) -> int:
    parts = urlsplit(url)
    try:
        return parts.port or _DEFAULT_PORTS.get(parts.scheme.lower(), 0)
    except ValueError:  # not a number: a URL that names no place
        return 0


def _folder() -> Path | None:
    """Of this user; None for one without a home folder."""
    state = state_folder()
    return None if state is None else state / "servers"
