"""Where a callback may go: to public addresses, and to what the operator lists.

A callback URL comes from whoever may call, and the worker stands where its network can be reached. So the gateway looks
at the host when a call is accepted (`refusal`: addresses in every spelling, names that mean this machine) and the
worker at each address that the name then has (`addresses`). The worker connects to an address that was looked at, not
to the name again: a name that changes between look and use gains nothing.

Never go there: ports of Holdfast itself, though the list has their address. Whoever may call could otherwise send what
a function answers to the provider, which deploys, or to NATS. `own_ports` collects them.

Sending is left to the client pool, what a refusal means for a call to gateway and worker. Functions of the gateway,
given as a path, do not come here: they are allowed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from holdfast import sockets
from holdfast.errors import AddressRefused, SettingError
from holdfast.http1.origin import Origin
from holdfast.nats_address import ServerAddress
from holdfast.settings import NatsSettings
from holdfast.sockets import IPAddress

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port -> the addresses of the host, best first. Raises OSError when there are none."""

LOOPBACK = "127.0.0.0/8,::1"
"""The list that lets receivers on this machine be called back."""

PORTS = "HOLDFAST_PORTS"
"""Variable in which whoever starts several parts tells each the ports of all, such as `4222,8082`, all on this machine.
Not a setting: nobody writes it by hand."""

# IANA's registries of special-purpose addresses, RFC 6890 and after. Written out, because what the ipaddress module
# calls global differs between Python's patch releases. The first that matches names the kind.
_SPECIAL_V4: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/32", "unspecified"),
    ("0.0.0.0/8", "reserved"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared"),  # carrier-grade NAT; some clouds keep their metadata in it
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),  # 169.254.169.254: metadata of most clouds
    ("168.63.129.16/32", "metadata"),  # Azure's host, behind an address that looks public
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),  # 192.0.0.192: metadata of Oracle's cloud
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "reserved"),  # relays of 6to4
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "reserved"),  # benchmarks
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),  # broadcast among them
)
# IPv6 the other way round: what is not global unicast is not public, and of that these are not either.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6: tuple[tuple[str, str], ...] = (
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("fc00::/7", "private"),  # metadata of AWS and Google Cloud among them
    ("ff00::/8", "multicast"),
    ("2001::/23", "reserved"),  # protocol assignments; Teredo, which has an IPv4 address within, among them
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
)
_SPECIAL: dict[int, list[tuple[IPNetwork, str]]] = {
    4: [(ipaddress.IPv4Network(network), kind) for network, kind in _SPECIAL_V4],
    6: [(ipaddress.IPv6Network(network), kind) for network, kind in _SPECIAL_V6],
}
_COMPATIBLE = ipaddress.IPv6Network("::/96")
# RFC 5214: the upper half of an interface identifier, below any network, whose lower half is an IPv4 address.
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_FUNCTION = re.compile(r"/(?:async-)?function/[-a-zA-Z_0-9.]+(?:[/?#]|\Z)")
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?:/|\Z)", re.IGNORECASE)

# RFC 1123, with the underscore that names in private networks have.
_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
_ENTRY = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_EXPECTED = (
    "hosts, host:port, *.suffix, addresses or networks, separated by commas, such as "
    "hooks.internal:8080,*.example.com,10.1.0.0/16"
)


def names_function(target: str) -> bool:
    """Whether a target is that of a function of the gateway. Not one that a proxy before it would make another of."""
    return _FUNCTION.match(target) is not None and _DOT_SEGMENT.search(re.split(r"[?#]", target)[0]) is None


def kind_of(address: IPAddress) -> str | None:
    """What an address is if it is not a public one: loopback, private, link-local …; None: it is public."""
    if isinstance(address, ipaddress.IPv6Address):
        within = _embedded(address)
        if within is not None:
            return kind_of(within)
    for network, kind in _SPECIAL[address.version]:
        if address in network:
            return kind
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return "reserved"
    return None


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, compatible, NAT64, 6to4 or ISATAP."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    number = int(address)
    if (number >> 32) & 0xFFFF_FFFF in _ISATAP:
        return ipaddress.IPv4Address(number & 0xFFFF_FFFF)
    if address in _NAT64 or (address in _COMPATIBLE and number > 0xFFFF):
        return ipaddress.IPv4Address(number & 0xFFFF_FFFF)
    return None


def read_address(host: str) -> IPAddress | None:
    """The address that a host is written as, in any spelling that a resolver would take for one; None: it is a name.

    IPv4 as inet_aton reads it: 127.1, 0x7f000001, 0177.0.0.1 and 2130706433 are all 127.0.0.1. A dot at the end, which
    marks a name as complete, is no part of it.
    """
    host = host.rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeError):
            return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class _Allowed(NamedTuple):
    """One entry of the allow list."""

    network: IPNetwork | None
    name: str
    """A host, or with a dot before it every host below; empty when there is a network."""
    port: int | None
    """None: any."""

    @classmethod
    def read(cls, text: str) -> _Allowed:
        """Raises ValueError."""
        try:
            return cls(ipaddress.ip_network(text), "", None)
        except ValueError:
            if "/" in text:
                raise
        match = _ENTRY.fullmatch(text)
        if match is None:
            raise ValueError(text)
        host = match["host"].strip("[]").lower().rstrip(".")
        port = int(match["port"]) if match["port"] else None
        if port is not None and not 0 < port <= 65535:
            raise ValueError(text)
        address = read_address(host)
        if address is not None:
            return cls(ipaddress.ip_network(address), "", port)
        bare = host.removeprefix("*.")
        if not _NAME.fullmatch(bare):
            raise ValueError(text)
        return cls(None, bare if bare == host else f".{bare}", port)

    def has_name(self, host: str, port: int) -> bool:
        if self.network is not None or self.port not in (None, port):
            return False
        return host.endswith(self.name) if self.name.startswith(".") else host == self.name

    def has_address(self, address: IPAddress, port: int) -> bool:
        return self.network is not None and self.port in (None, port) and address in self.network


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host by the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class OwnPort(NamedTuple):
    """A port of Holdfast itself, by the host that its peers call it by."""

    host: str
    port: int


def own_ports(nats: NatsSettings, provider: Origin, *listening: socket.socket) -> frozenset[OwnPort]:
    """What a part knows of Holdfast's own ports: NATS's, the provider's, its own, and what its starter named.

    Raises SettingError for servers of NATS that are none.
    """
    named = [int(port) for port in os.environ.get(PORTS, "").split(",") if port.isdecimal()]
    return frozenset(
        [
            *(OwnPort(server.host, server.port) for server in map(ServerAddress.parse, nats.servers())),
            OwnPort(provider.host, provider.port),
            *(OwnPort(*sock.getsockname()[:2]) for sock in listening),
            *(OwnPort("localhost", port) for port in named),
        ]
    )


class CallbackGuard:
    """Says where callbacks may go. The same allow list belongs to gateways and workers."""

    def __init__(
        self,
        allow: Iterable[str] = (),
        *,
        deny_private: bool = True,
        own: Iterable[OwnPort] = (),
        gateway: OwnPort | None = None,
        resolver: Resolver = resolve,
    ) -> None:
        """How to guard.

        Args:
            allow: Where callbacks may go besides public addresses; SettingError for an entry that cannot be used.
            deny_private: Whether other addresses are refused.
            own: Where no callback ever goes.
            gateway: Where callbacks go to functions only, as far as can be told from what stands in a URL; the gateway
                itself refuses the others.
            resolver: What finds the addresses of a host.
        """
        self._deny_private = deny_private
        self._resolve = resolver
        self._own: dict[int, list[_Place]] = {}
        for part in own:
            self._own.setdefault(part.port, []).append(_place(part.host))
        self._gateway = None if gateway is None else (_place(gateway.host), gateway.port)
        self._allowed: list[_Allowed] = []
        for entry in allow:
            try:
                self._allowed.append(_Allowed.read(entry))
            except ValueError:
                raise SettingError("callback_allow", entry, _EXPECTED) from None

    def refusal(self, origin: Origin, target: str | None = None) -> str | None:
        """Why a callback to this origin is refused, as far as can be told without resolving a name; None: it is not.

        With `target` also whether it names what callbacks may not use of the gateway.
        """
        if self._is_own(origin) or (target is not None and self._is_gateway(origin) and not names_function(target)):
            return _OWN_PORT % str(origin)
        address = read_address(origin.host)
        if address is not None:
            kind = self._kind(address, origin.port)
            return None if kind is None else f"{origin.host} is not a public address ({kind})"
        host = _bare(origin.host)
        if not _NAME.fullmatch(host):
            return f"{origin.host!r} is neither a host name nor an address"
        if self._allows_name(host, origin.port):
            return None
        # RFC 6761: these mean loopback whatever a resolver says.
        if _is_local_name(host) and self._kind(_LOCALHOST, origin.port) is not None:
            return f"{origin.host} is this machine (loopback)"
        return None

    async def addresses(self, origin: Origin) -> Sequence[str]:
        """The addresses to connect to, each of them allowed, best first.

        A host with one forbidden address is refused whole: it is not a receiver with a spare address. Raises
        AddressRefused, and OSError when the name has no address. Not cached: a name may change, an address is cheap to
        look at, and kept connections are used without asking.
        """
        refusal = self.refusal(origin)
        if refusal is not None:
            raise AddressRefused(str(origin), refusal)
        literal = read_address(origin.host)
        found = [str(literal)] if literal is not None else await self._resolve(origin.host, origin.port)
        if origin.port in self._own and await self._is_found_own(found, origin.port):
            raise AddressRefused(str(origin), _OWN_PORT % str(origin))
        if literal is not None or self._allows_name(_bare(origin.host), origin.port):
            return found
        for text in found:
            address = read_address(text)
            kind = "reserved" if address is None else self._kind(address, origin.port)
            if kind is not None:
                # Not the address itself: the text reaches callers, and they are not to learn a network's names.
                raise AddressRefused(str(origin), f"{origin.host} has an address that is not public ({kind})")
        return found

    def _is_own(self, origin: Origin) -> bool:
        parts = self._own.get(origin.port)
        if parts is None:
            return False
        place = _place(origin.host)
        return any(_same(place, part) for part in parts)

    def _is_gateway(self, origin: Origin) -> bool:
        if self._gateway is None:
            return False
        place, port = self._gateway
        return port == origin.port and _same(_place(origin.host), place)

    async def _is_found_own(self, found: Sequence[str], port: int) -> bool:
        """Whether one of a host's addresses is where one of our own parts is, which may be known by its name."""
        places = [_place(text) for text in found]
        for part in self._own[port]:
            theirs = [part]
            if isinstance(part, str):
                try:
                    theirs = [_place(text) for text in await self._resolve(part, port)]
                except OSError:
                    continue  # nobody reaches it by that name now
            if any(_same(place, one) for place in places for one in theirs):
                return True
        return False

    def _allows_name(self, host: str, port: int) -> bool:
        return not self._deny_private or any(allowed.has_name(host, port) for allowed in self._allowed)

    def _kind(self, address: IPAddress, port: int) -> str | None:
        """What makes an address forbidden; None: it is allowed."""
        kind = kind_of(address)
        if (
            kind is None
            or not self._deny_private
            or any(allowed.has_address(address, port) for allowed in self._allowed)
        ):
            return None
        return kind


_LOCALHOST = ipaddress.IPv4Address("127.0.0.1")
_OWN_PORT = "%s is a port of Holdfast itself: name a function as /function/<name> or /async-function/<name>"

_Place = IPAddress | str
"""Where a host is, as far as that is written: its address, or its name."""


def _bare(host: str) -> str:
    """A name as names are compared."""
    return host.lower().rstrip(".")


def _is_local_name(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _place(host: str) -> _Place:
    name = _bare(host)
    address = _LOCALHOST if _is_local_name(name) else read_address(name)
    if isinstance(address, ipaddress.IPv6Address):
        return _embedded(address) or address
    return name if address is None else address


def _same(one: _Place, other: _Place) -> bool:
    """Whether two places are one. This machine is one place, whichever of its addresses a part listens on."""
    if one == other:
        return True
    if isinstance(one, str) or isinstance(other, str):
        return False
    return sockets.is_of_this_machine(one) and sockets.is_of_this_machine(other)
