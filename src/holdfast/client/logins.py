"""The logins kept in `~/.openfaas/config.yml` (or `$OPENFAAS_CONFIG/config.yml`), in faas-cli's own format.

    auths:
    - gateway: https://gateway.example.com
      auth: basic
      token: <base64 of user:password>
    options: []

What else the file holds, logins of other kinds and fields we do not know, stays as it is. The file and its folder are
the user's alone. Checking a password with the gateway is left to the caller.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from holdfast.basic_auth import Credentials
from holdfast.client.errors import LoginFileUnusable
from holdfast.client.servers import same_gateway
from holdfast.errors import SettingError


def login_file(environ: Mapping[str, str]) -> Path:
    """Where logins are kept. Raises SettingError when this user has no home folder and none is named."""
    folder = environ.get("OPENFAAS_CONFIG")
    if folder:
        return Path(folder) / "config.yml"
    try:
        return Path.home() / ".openfaas" / "config.yml"
    except RuntimeError:
        expected = "the user's home folder, or in OPENFAAS_CONFIG a folder for logins"
        raise SettingError("HOME", environ.get("HOME", ""), expected) from None


def keep_login(gateway: str, credentials: Credentials, environ: Mapping[str, str] | None = None) -> Path:
    """Keep a login, in place of the one there was for this gateway; gives the file. Raises LoginFileUnusable."""
    path = login_file(os.environ if environ is None else environ)
    config = _read(path)
    # The header's value without `Basic `: base64 of user:password, which is what faas-cli keeps.
    token = credentials.header().removeprefix(b"Basic ").decode()
    entry = {"gateway": gateway, "auth": "basic", "token": token}
    config["auths"] = [*(kept for kept in config["auths"] if not _is_for(kept, gateway)), entry]
    _write(path, config)
    return path


def forget_login(gateway: str, environ: Mapping[str, str] | None = None) -> bool:
    """Remove the login for a gateway; whether there was one. Raises LoginFileUnusable."""
    path = login_file(os.environ if environ is None else environ)
    config = _read(path)
    kept = [entry for entry in config["auths"] if not _is_for(entry, gateway)]
    if len(kept) == len(config["auths"]):
        return False
    config["auths"] = kept
    _write(path, config)
    return True


def _is_for(entry: Any, gateway: str) -> bool:
    return isinstance(entry, dict) and same_gateway(str(entry.get("gateway", "")), gateway)


def _read(path: Path) -> dict[str, Any]:
    """The file's content with a list of `auths`. One that cannot be understood is never written over."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        config = None
    except OSError as error:
        raise LoginFileUnusable(path, error.strerror or str(error)) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise LoginFileUnusable(path, "it is not YAML") from error
    config = {"auths": [], "options": []} if config is None else config
    if not isinstance(config, dict) or not isinstance(config.get("auths") or [], list):
        raise LoginFileUnusable(path, "it holds no list of auths")
    return {**config, "auths": config.get("auths") or []}


def _write(path: Path, config: dict[str, Any]) -> None:
    """Replace the file as a whole: a reader never sees half of it, nor anybody else the passwords."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes the file 0600.
        handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=".config-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                yaml.safe_dump(config, file, sort_keys=False)
            Path(fresh).replace(path)
        except BaseException:
            Path(fresh).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LoginFileUnusable(path, error.strerror or str(error)) from error
