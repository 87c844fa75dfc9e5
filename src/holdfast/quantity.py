"""Kubernetes quantities, the form of OpenFaaS's limits: `128Mi` of memory, `500m` of a processor. No I/O."""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)(m|k|[KMGTPE]i?)?")
_DECIMAL = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}


def is_quantity(text: str) -> bool:
    """Whether it has the form."""
    return _QUANTITY.fullmatch(text) is not None


def memory_bytes(text: str) -> int:
    """An amount of memory. Raises ValueError.

    `40m` is 40 MiB: stack files from the days of Docker Swarm are written so, and thousandths of a byte mean nothing.
    """
    number, unit = _parts(text)
    return int(number * (2**20 if unit == "m" else {**_DECIMAL, **_BINARY}[unit]))


def millicores(text: str) -> int:
    """Processor time, in thousandths of one processor: `500m` and `0.5` are 500. Raises ValueError."""
    number, unit = _parts(text)
    return int(number if unit == "m" else number * 1000 * {**_DECIMAL, **_BINARY}[unit])


def _parts(text: str) -> tuple[Decimal, str]:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a quantity such as 128Mi or 500m")
    return Decimal(found[1]), found[2] or ""
