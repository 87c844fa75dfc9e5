"""Who may use /system: the password, and what a browser may send on behalf of another site's page. No I/O.

Functions are open to everybody and are not guarded here. Why these checks and no others:
docs/decisions/0007-browsers-and-the-api.md.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from holdfast.basic_auth import Credentials
from holdfast.headers import RawHeaders

CHALLENGE = b'WWW-Authenticate: Basic realm="Restricted"\r\n'

# Of Sec-Fetch-Site: the page came from here, or the user typed the address. `same-site` is not enough: on localhost
# every port is the same site.
_OWN = frozenset({b"same-origin", b"none"})


class Asking(Protocol):
    """What the guard looks at; an Exchange is one."""

    headers: RawHeaders

    def header(self, lower_name: bytes) -> bytes | None:
        """The first value of a header."""


class Refusal(NamedTuple):
    """Why a request is not let in."""

    status: int
    text: str
    headers: bytes = b""


class Guard:
    """Lets requests to /system in, or says why not."""

    def __init__(self, required: Credentials | None, *, loopback: bool, hosts: Iterable[str] = ()) -> None:
        """How to guard.

        Args:
            required: What callers must show; None: nothing.
            loopback: Whether the gateway can only be reached from this machine.
            hosts: Names, besides localhost and IP addresses, by which a gateway on loopback may be called without a
                password.
        """
        self._required = required
        self._names: frozenset[str] | None = None
        if loopback and required is None:
            self._names = frozenset(host.lower() for host in hosts)

    def refusal(self, asking: Asking) -> Refusal | None:
        """None when the request may go on."""
        if not _of_this_origin(asking):
            return Refusal(
                403,
                "a page of another site may not use this API: open it from the gateway's own address, or without a "
                "browser.",
            )
        if asking.header(b"x-function-status") is not None:
            # A caller chooses where its callback goes; without a password that must not be here.
            return Refusal(403, "a callback may not use this API: name a function as X-Callback-Url.")
        if self._names is not None and not self._names_this_machine(asking.header(b"host") or b""):
            return Refusal(
                403,
                "this gateway has no password, so it is only called as localhost or by an IP address; allowed_hosts "
                "adds names.",
            )
        if self._required is not None and not _proves(asking, self._required):
            return Refusal(
                401,
                "this needs the user and password of this gateway: `holdfast login` or `faas-cli login` keeps them, "
                "curl takes them as --user admin:PASSWORD.",
                CHALLENGE,
            )
        return None

    def _names_this_machine(self, host: bytes) -> bool:
        """Whether a Host header cannot be a foreign name that was made to point at this machine (DNS rebinding)."""
        try:
            name = (urlsplit(f"//{host.decode('ascii')}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name == "localhost" or name.endswith(".localhost") or name in (self._names or ()):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # an address was not looked up, so no DNS server can have lied about it


def _of_this_origin(asking: Asking) -> bool:
    """Whether no page of another origin sent this. What is not a browser sends neither header."""
    fetched_by = asking.header(b"sec-fetch-site")
    if fetched_by is not None:
        return fetched_by in _OWN
    # Browsers older than 2020-2023, and plain http on names other than localhost, send the origin alone.
    origin = asking.header(b"origin")
    if origin is None:
        return True
    scheme, _, netloc = origin.lower().partition(b"://")
    default = b":443" if scheme == b"https" else b":80"
    host = (asking.header(b"host") or b"").lower()
    return bool(netloc) and netloc.removesuffix(default) == host.removesuffix(default)


def _proves(asking: Asking, required: Credentials) -> bool:
    given = [value for name, value in asking.headers if name.lower() == b"authorization"]
    # More than one is refused: which of them an intermediary checked cannot be known.
    return len(given) == 1 and required.matches(given[0])
