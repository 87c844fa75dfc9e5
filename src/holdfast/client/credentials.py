"""Which user and password go to which gateway. Reads files and the environment, never writes.

Three places are looked at, the most deliberate first:

1. `OPENFAAS_USER` and `OPENFAAS_PASSWORD`: for the gateway that `OPENFAAS_URL` names, or for any when it is not set.
2. `~/.openfaas/config.yml` (or `$OPENFAAS_CONFIG/config.yml`), where `holdfast login` and `faas-cli login` put them.
3. The data folder of a `holdfast serve` that runs on this machine (holdfast.client.servers).
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping

import yaml

from holdfast.basic_auth import Credentials, read_credentials
from holdfast.client.logins import login_file
from holdfast.client.servers import find_server, same_gateway
from holdfast.errors import SettingError


def find_credentials(gateway_url: str, environ: Mapping[str, str] | None = None) -> Credentials | None:
    """The credentials for a gateway, or None when nothing here knows any. A file that cannot be read knows none."""
    values = os.environ if environ is None else environ
    return _from_environment(gateway_url, values) or _from_faas_cli(gateway_url, values) or _from_server(gateway_url)


def _from_environment(gateway_url: str, environ: Mapping[str, str]) -> Credentials | None:
    user, password = environ.get("OPENFAAS_USER"), environ.get("OPENFAAS_PASSWORD")
    if not user or not password:
        return None
    meant_for = environ.get("OPENFAAS_URL")
    if meant_for and not same_gateway(meant_for, gateway_url):
        return None
    return Credentials(user, password)


def _from_faas_cli(gateway_url: str, environ: Mapping[str, str]) -> Credentials | None:
    try:
        config = yaml.safe_load(login_file(environ).read_text(encoding="utf-8"))
    except (SettingError, OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    entries = config.get("auths") if isinstance(config, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if (
            isinstance(entry, dict)
            and entry.get("auth") == "basic"
            and same_gateway(str(entry.get("gateway", "")), gateway_url)
        ):
            return _from_token(str(entry.get("token", "")))
    return None


def _from_token(token: str) -> Credentials | None:
    try:
        user, colon, password = base64.b64decode(token, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Credentials(user, password) if colon else None


def _from_server(gateway_url: str) -> Credentials | None:
    server = find_server(gateway_url)
    if server is None:
        return None
    try:
        return read_credentials(server.secrets)
    except SettingError:  # no files: it was started with --no-auth
        return None
