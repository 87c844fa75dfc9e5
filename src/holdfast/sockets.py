"""Listening sockets: bound by the parent, handed to a child process by descriptor number.

A part that is started alone binds its own port. Under `holdfast serve` the supervisor binds and keeps the sockets, so a
part that dies leaves its port open: callers who connect meanwhile wait in the backlog instead of being refused.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import random
import resource
import socket
import sys
import uuid
from contextlib import suppress

from holdfast.errors import StartError

UNLIKELY_PORTS = (20_000, 32_000)
MANY = 65_536
# Open descriptors. Not more, where more is allowed: some programs close each that there could be when they start.
BACKLOG = 4096
# Bursts of short connections arrive faster than one loop turn accepts them; the kernel caps this at net.core.somaxconn.

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def listen(host: str, port: int, *, purpose: str, option: str, shared: bool = False) -> socket.socket:
    """Bind and listen. `shared` lets several sockets share the port (SO_REUSEPORT), the kernel spreading connections.

    Raises StartError that names what the port was for and the option that changes it, when the port is in use or the
    address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(
            f"cannot listen on {host}:{port} for the {purpose}: {error.strerror or error}. "
            + (
                f"Stop what uses it or choose another with {option} (0: any free port)."
                if error.errno in {errno.EADDRINUSE, errno.EACCES}
                else "Give an address of this machine, 0.0.0.0 for all."
            )
        ) from error
    sock.setblocking(False)
    return sock


def listen_shared(host: str, port: int, count: int, *, purpose: str, option: str) -> list[socket.socket]:
    """`count` sockets on one port. A port that anything else holds is refused, even if that shares its port too."""
    if count == 1:
        return [listen(host, port, purpose=purpose, option=option)]
    # The first bind without SO_REUSEPORT finds any other owner of the port; only then is it opened for sharing.
    probe = listen(host, port, purpose=purpose, option=option)
    port = port_of(probe)
    probe.close()
    return [listen(host, port, purpose=purpose, option=option, shared=True) for _ in range(count)]


def listen_local() -> socket.socket | None:
    """A Unix socket beside a port on loopback, for peers on this machine; None where the system has no such names.

    Its name is in Linux's abstract namespace: no file is left behind, and it is seen where loopback is, in one network
    namespace.
    """
    if sys.platform != "linux":
        return None
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(f"\0holdfast-{uuid.uuid4()}")
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def local_url(sock: socket.socket) -> str:
    """`unix:@<name>` of a socket that `listen_local` made; `@` stands for the byte that such a name begins with."""
    name: bytes = sock.getsockname()
    return "unix:@" + name[1:].decode()


def local_name(url: str) -> str:
    """What to connect to, of a URL that `local_url` made. Raises ValueError for anything else."""
    if not url.startswith("unix:@"):
        raise ValueError(f"{url!r} is not the URL of a Unix socket: expected unix:@<name>")
    return "\0" + url.removeprefix("unix:@")


def unlikely_port() -> int:
    """A free loopback port for a server that binds it itself, in a moment.

    Taken from below the range that the kernel hands out by itself, so that nobody is given it meanwhile.
    """
    for _ in range(100):
        port = random.randrange(*UNLIKELY_PORTS)  # noqa: S311 - to be found free, not to be secret
        try:
            listen("127.0.0.1", port, purpose="test", option="none").close()
        except StartError:
            continue
        return port
    raise StartError(f"no free port was found between {UNLIKELY_PORTS[0]} and {UNLIKELY_PORTS[1]}.")


def allow_many() -> None:
    """Let this process, and its children, have as many open connections as the system allows it to ask for.

    Shells give 1,024 descriptors at first, for programs that use select(); a gateway with a thousand callers has two
    thousand connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY if hard == resource.RLIM_INFINITY else min(hard, MANY)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # a sandbox may refuse: then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def port_of(sock: socket.socket) -> int:
    """The port a socket is bound to."""
    port: int = sock.getsockname()[1]
    return port


def url_of(sock: socket.socket) -> str:
    """`http://host:port` of a socket, as a caller on this machine would write it."""
    host: str = sock.getsockname()[0]
    return url_at({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), sock)


def bound_url(sock: socket.socket) -> str:
    """`http://host:port` that a socket is bound to, for people to read: every address is 0.0.0.0 or [::]."""
    return url_at(sock.getsockname()[0], sock)


def url_at(host: str, sock: socket.socket) -> str:
    """`http://host:port` of a socket, as a caller writes it who reaches this machine by `host`."""
    return f"http://[{host}]:{port_of(sock)}" if ":" in host else f"http://{host}:{port_of(sock)}"


def is_loopback(sock: socket.socket) -> bool:
    """Whether a socket can only be reached from this machine."""
    return _plain(ipaddress.ip_address(sock.getsockname()[0])).is_loopback


def is_everywhere(sock: socket.socket) -> bool:
    """Whether a socket listens on every address of this machine."""
    return _plain(ipaddress.ip_address(sock.getsockname()[0])).is_unspecified


def is_of_this_machine(address: IPAddress) -> bool:
    """Whether connecting to an address leads to this machine: loopback, unspecified, or one that it has now."""
    address = _plain(address)
    if address.is_loopback or address.is_unspecified:
        return True
    try:
        # The kernel lets a socket be bound to what it has, and to nothing else.
        with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _plain(address: IPAddress) -> IPAddress:
    """An address without the IPv6 around an IPv4 one: Python's own questions do not look through it before 3.13."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def inherited(variable: str) -> socket.socket | None:
    """The listening socket whose descriptor number the environment variable holds; None when it is not set.

    The variable is removed: it means nothing to the children of this process.
    """
    number = os.environ.pop(variable, "")
    if not number:
        return None
    try:
        sock = socket.socket(fileno=int(number))
    except (ValueError, OSError) as error:
        raise StartError(f"{variable}={number!r} is not a listening socket of this process: {error}") from error
    sock.setblocking(False)
    return sock
