"""HTTP basic authentication for the administrative API: reading the credentials, checking a request, the ASGI layer.

The user and the password are files, as OpenFaaS mounts them: `basic-auth-user` and `basic-auth-password`. Making a
password is left to whoever starts the system.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.errors import SettingError

USER_FILE = "basic-auth-user"
PASSWORD_FILE = "basic-auth-password"  # noqa: S105 - the name of a file
CHALLENGE = b'Basic realm="holdfast"'
_EXPECTED = f"a folder with {USER_FILE} and {PASSWORD_FILE}, a line of text each"
REFUSAL = b"This needs the user and password of the gateway (HTTP basic authentication).\n"

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_AsgiApp = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password, which never show in a log."""

    user: str
    password: str = field(repr=False)

    def matches(self, header: bytes | None) -> bool:
        """Whether the value of an `Authorization` header proves these credentials, compared in constant time."""
        scheme, _, encoded = (header or b"").strip().partition(b" ")
        if scheme.lower() != b"basic":
            return False
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return False
        return hmac.compare_digest(given, self._pair())

    def header(self) -> bytes:
        """The value of an `Authorization` header that proves these credentials."""
        return b"Basic " + base64.b64encode(self._pair())

    def _pair(self) -> bytes:
        return f"{self.user}:{self.password}".encode()


def read_credentials(folder: str | Path, setting: str = "secret_mount_path") -> Credentials:
    """Read the two files; a line end at the end does not count.

    Raises SettingError, for the setting that names the folder, when they cannot be used.
    """
    try:
        user, password = _read(Path(folder) / USER_FILE), _read(Path(folder) / PASSWORD_FILE)
    except (OSError, ValueError) as error:
        raise SettingError(setting, str(folder), f"{_EXPECTED}; {_why(error)}") from error
    if ":" in user:
        raise SettingError(setting, str(folder), f"{_EXPECTED}; the user in {USER_FILE} has a colon in it")
    return Credentials(user, password)


def provider_authorization(*, basic_auth: bool, secrets: str, provider_secrets: str) -> bytes | None:
    """The header by which a part shows the provider who it is; None: it shows nothing.

    Of a folder for the provider, else of what protects the gateway. Raises SettingError as `read_credentials` does.
    """
    if provider_secrets:
        return read_credentials(provider_secrets, "provider_secret_mount_path").header()
    return read_credentials(secrets).header() if basic_auth else None


def _read(path: Path) -> str:
    text = path.read_text("utf-8").rstrip("\r\n")
    if not text:
        raise ValueError(f"{path.name} is empty")
    return text


def _why(error: OSError | ValueError) -> str:
    """Never with what was read: an undecodable password stands in its UnicodeDecodeError."""
    if isinstance(error, OSError):
        return f"{Path(str(error.filename)).name} cannot be read: {error.strerror}"
    return "one of them is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


class BasicAuth:
    """ASGI middleware: a request without the credentials is answered 401, except for `open_paths`."""

    def __init__(
        self, app: _AsgiApp, credentials: Credentials, open_paths: frozenset[str] = frozenset({"/healthz"})
    ) -> None:
        self._app = app
        self._credentials = credentials
        self._open_paths = open_paths

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve one request (ASGI 3)."""
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
            # More than one is refused: which of them an intermediary checked cannot be known.
            if len(given) != 1 or not self._credentials.matches(given[0]):
                await _refuse(send)
                return
        await self._app(scope, receive, send)


async def _refuse(send: _Send) -> None:
    headers = [
        (b"www-authenticate", CHALLENGE),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(REFUSAL)).encode()),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSAL})
