"""A provider's description of a function, read: which of its replicas can be called from this host. No I/O.

Our provider says on which host it is. Loopback addresses and Unix sockets mean something there only: on another host
the same address is another program's, so they are left out. A provider that does not say (an earlier version of ours,
faas-netes, faasd) is taken by its word.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, NamedTuple

from holdfast.function import FunctionRef
from holdfast.http1.client import Origin
from holdfast.http1.origin import is_instance
from holdfast.invocation import is_provider_id
from holdfast.sockets import local_name


class Description(NamedTuple):
    """What a provider says of a function that exists."""

    origins: tuple[Origin, ...]
    """The replicas that are ready and can be called from here; or the provider itself, which is called by `prefix`."""
    prefix: bytes
    """What goes before the function's path; empty: its replicas are called."""
    annotations: Mapping[str, str]
    asleep: bool
    """Whether it has no replica and its provider starts one only when asked to scale."""
    trouble: str
    """Why nothing can be called, as an operator should read it; empty when something can."""
    out_of_reach: bool
    """Whether replicas are ready and none can be called from here: there is nothing to wait for."""
    provider_id: str
    """Which provider says so; empty: one that has no id."""


def read(ref: FunctionRef, status: Mapping[str, Any], provider: Origin, host: str) -> Description:
    """Read a FunctionStatus of the provider that was asked at `provider`, on the host `host`.

    Raises ValueError, AttributeError or TypeError for what is none.
    """
    annotations = {str(name): str(value) for name, value in (status.get("annotations") or {}).items()}
    endpoints = status.get("endpoints")
    if endpoints is None:
        # Members that are zero are left out by providers in Go.
        origins: tuple[Origin, ...] = (provider,) if status.get("availableReplicas") else ()
        asleep = not status.get("replicas")
        trouble = "" if origins else "the provider has no replica of it that is available"
        return Description(origins, f"/function/{ref}".encode(), annotations, asleep, trouble, False, "")
    there = str(status.get("hostId") or host)
    ready = _origins(endpoints, status.get("localEndpoints"), status.get("instances"))
    origins = ready if there == host else tuple(one._replace(local="") for one in ready if not is_loopback(one.host))
    out_of_reach = bool(ready) and not origins
    if out_of_reach:
        where = ", ".join(map(str, ready))
        trouble = (
            f"its replicas are announced at {where}, which is the loopback of another host than this one: set "
            "replica_host and replica_announce for its provider, or run this part on the provider's host"
        )
    else:
        trouble = "" if origins else _why_none(status)
    return Description(origins, b"", annotations, False, trouble, out_of_reach, provider_id(status))


def provider_id(said: Mapping[str, Any], name: str = "providerId") -> str:
    """The id that a provider gives itself; empty: none, or none that can be used."""
    text = str(said.get(name) or "")
    return text if is_provider_id(text) else ""


def is_loopback(host: str) -> bool:
    """Whether an address, or the name localhost, leads to the host itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    # 0.0.0.0 and :: reach the host itself on Linux.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback or address.is_unspecified


def _origins(endpoints: list[str], local: list[str] | None, instances: list[str] | None) -> tuple[Origin, ...]:
    """The replicas, each with what our provider names in the same place of two other lists."""
    origins = [Origin.parse(endpoint) for endpoint in endpoints]
    if local is not None:
        origins = [
            one._replace(local=local_name(near) if near else "") for one, near in zip(origins, local, strict=True)
        ]
    if instances is not None:
        for name in instances:
            if not is_instance(name):
                raise ValueError(f"{name!r} is not the name of an instance")
        origins = [one._replace(instance=name) for one, name in zip(origins, instances, strict=True)]
    return tuple(origins)


def _why_none(status: Mapping[str, Any]) -> str:
    wanted = status.get("replicas") or 0
    if not wanted:
        return "it is scaled to zero"
    last = (status.get("lastError") or {}).get("message", "")
    why = f": {str(last).splitlines()[0][:300]}" if last else ""
    return f"none of its {wanted} replicas is ready{why}"
