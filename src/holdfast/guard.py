"""Who may use an administrative API, and what a browser may send on behalf of a page.

Two servers ask: the gateway for /system, and for every route by which name it is called; and a provider that has no
password. Why these checks and no others: docs/decisions/0007-browsers-and-the-api.md.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import structlog

from holdfast import sockets
from holdfast.basic_auth import Credentials
from holdfast.headers import RawHeaders, first

CHALLENGE = b'WWW-Authenticate: Basic realm="Restricted"\r\n'
MOST_NAMES_KEPT = 256
# Values of `Host` that were found right and are not read again.

# Of Sec-Fetch-Site: the page came from here, or the user typed the address. `same-site` is not enough: on localhost
# every port is the same site.
_OWN = frozenset({b"same-origin", b"none"})

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_AsgiApp = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


log = structlog.get_logger()


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


_FOREIGN = Refusal(
    403,
    "this server has no password, so it is only called as localhost, by an IP address or by a name in its setting "
    "allowed_hosts: call it so, add the name there, or start it with a password.",
)


class Guard:
    """Lets requests in, or says why not."""

    def __init__(self, required: Credentials | None, *, loopback: bool, hosts: Iterable[str] = ()) -> None:
        """How to guard.

        Args:
            required: What callers must show; None: nothing.
            loopback: Whether the server can only be reached from this machine.
            hosts: Names, besides localhost and IP addresses, by which a server on loopback may be called without a
                password.
        """
        self._required = required
        self._names: frozenset[str] | None = None
        self._right: set[bytes] = set()
        if loopback and required is None:
            self._names = frozenset(host.lower().rstrip(".") for host in hosts)

    @property
    def knows_names(self) -> bool:
        """Whether a server may be called by some names only."""
        return self._names is not None

    def foreign_host(self, asking: Asking) -> Refusal | None:
        """Why a request is refused for the name it calls this server by; None: it is not.

        Without a name, as HTTP/1.0 may come, it is no browser's. HOT: 0.2 µs, and a call where there is a password.
        """
        if self._names is None:
            return None
        host = asking.header(b"host")
        if not host or host in self._right:
            return None
        if self._names_this_machine(host):
            if len(self._right) < MOST_NAMES_KEPT:
                self._right.add(host)
            return None
        return _FOREIGN

    def refusal(self, asking: Asking) -> Refusal | None:
        """Why a request to the API is refused; None: it may go on."""
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
            return _FOREIGN
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


def guard_at(listening: socket.socket, required: Credentials | None, hosts: Iterable[str]) -> Guard:
    """The guard of a server that listens there. A server that anybody may use says so in the log."""
    loopback = sockets.is_loopback(listening)
    if required is None and not loopback:
        log.warning(open_to_all(listening))
    return Guard(required, loopback=loopback, hosts=hosts)


def open_to_all(listening: socket.socket) -> str:
    """What it means that a server beyond loopback has no password."""
    url = sockets.bound_url(listening)
    return f"no password: anyone who reaches {url} can deploy functions, that is, run commands on this machine"


class Guarded:
    """ASGI middleware: what `decide` refuses is answered so, everything else goes on."""

    def __init__(self, app: _AsgiApp, decide: Callable[[Asking], Refusal | None]) -> None:
        self._app = app
        self._decide = decide

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve one request (ASGI 3)."""
        refusal = self._decide(_Scoped(scope["headers"])) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        body = refusal.text.encode() + b"\n"
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _Scoped:
    """What an ASGI server says of a request's headers."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.headers: RawHeaders = list(headers)

    def header(self, lower_name: bytes) -> bytes | None:
        return first(self.headers, lower_name)


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
