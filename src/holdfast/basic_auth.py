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

from holdfast.errors import StartError

USER_FILE = "basic-auth-user"
PASSWORD_FILE = "basic-auth-password"  # noqa: S105 - the name of a file
CHALLENGE = b'Basic realm="holdfast"'
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


def read_credentials(folder: str | Path) -> Credentials:
    """Read the two files; a line end at the end does not count. Raises StartError when they cannot be used."""
    user = _read(Path(folder) / USER_FILE)
    password = _read(Path(folder) / PASSWORD_FILE)
    if ":" in user:
        raise StartError(f"{Path(folder) / USER_FILE} cannot be used: a user name has no colon in it")
    return Credentials(user, password)


def provider_credentials(*, basic_auth: bool, secrets: str, provider_secrets: str) -> Credentials | None:
    """What a part shows to the provider: of a folder for the provider, else what protects the gateway, else nothing.

    Raises StartError as `read_credentials` does.
    """
    if provider_secrets:
        return read_credentials(provider_secrets)
    return read_credentials(secrets) if basic_auth else None


def _read(path: Path) -> str:
    try:
        text = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise StartError(
            f"basic_auth needs {path}, which cannot be read: {reason}. "
            f"secret_mount_path names the folder of {USER_FILE} and {PASSWORD_FILE}"
        ) from error
    if not text:
        raise StartError(f"basic_auth needs {path} to have one line of text: it is empty")
    return text


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
