"""What a deployment's limits are in numbers, and which of them are only kept and shown. No I/O.

A limit holds for a replica: for its watchdog with everything that this starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.errors import DeploymentError
from holdfast.quantity import memory_bytes, millicores
from holdfast.stack import Deployment

# A watchdog that does nothing has 14 MiB of its own, 26 with what all watchdogs share.
LEAST_MEMORY_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one replica; 0: none."""

    memory_bytes: int = 0
    millicores: int = 0


def limits_of(deployment: Deployment) -> Limits:
    """The limits in numbers. Raises DeploymentError for what is no quantity."""
    given = deployment.limits
    if given is None:
        return Limits()
    try:
        return Limits(memory_bytes(given.memory or "0"), millicores(given.cpu or "0"))
    except ValueError as error:
        raise DeploymentError(deployment.ref.name, f"limits: {error}") from error


def warnings(deployment: Deployment, *, processor_free: str) -> tuple[str, ...]:
    """What whoever deploys should know of the limits; `processor_free` is why none for the processor is enforced."""
    limits, given = limits_of(deployment), deployment.limits
    found = []
    if given is not None and limits.millicores and processor_free:
        found.append(f"limits.cpu={given.cpu} is not enforced on this machine: {processor_free}")
    if given is not None and 0 < limits.memory_bytes < LEAST_MEMORY_BYTES:
        found.append(
            f"limits.memory={given.memory} is less than a watchdog needs for itself, "
            f"{LEAST_MEMORY_BYTES // 2**20}Mi: its replicas will be stopped as they start"
        )
    return tuple(found)


def mebibytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 2**20:.1f} MiB"
