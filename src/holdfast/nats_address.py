"""Read a NATS server's URL: where it is, how it is reached, and what to say who we are. No I/O."""

from __future__ import annotations

from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

from holdfast.errors import SettingError
from holdfast.web_address import is_host

DEFAULT_PORT = 4222

_EXPECTED = "nats://[user:password@]host[:port] or tls://…, several separated by commas"


class ServerAddress(NamedTuple):
    """One server. `str()` is `host:port` without the credentials: the form for logs and errors."""

    host: str
    port: int
    tls: bool = False
    user: str = ""
    password: str = ""
    token: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `nats://…`, `tls://…` or `host:port`. User info without a colon is a token. Raises SettingError."""
        refused = SettingError("nats_url", without_credentials(url), _EXPECTED)
        try:
            parts = urlsplit(url if "://" in url else f"nats://{url}")
            port = DEFAULT_PORT if parts.port is None else parts.port
        except ValueError:
            raise refused from None
        if not port or not is_host(parts.hostname or "") or parts.scheme not in {"nats", "tls"}:
            raise refused
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise refused
        name = unquote(parts.username or "")
        tls = parts.scheme == "tls"
        if parts.password is None:
            return cls(parts.hostname or "", port, tls, token=name)
        return cls(parts.hostname or "", port, tls, user=name, password=unquote(parts.password))


def read_servers(text: str) -> list[str]:
    """The URLs of servers, out of a list with commas between them. Raises SettingError for one that cannot be used."""
    urls = [part.strip() for part in text.split(",") if part.strip()]
    if not urls:
        raise SettingError("nats_url", text, _EXPECTED)
    for url in urls:
        ServerAddress.parse(url)
    return urls


def without_credentials(url: str) -> str:
    """A URL, or a list of them, that may be shown: without what may be a user or a password in it."""
    before, at, after = url.rpartition("@")
    scheme, separator, _ = before.partition("://")
    return f"{scheme if separator else ''}{separator}…@{after}" if at else url
