"""Read a request's target: which function it is for, and what the function is to see of it. No I/O.

The target is taken apart as bytes and never decoded, so `%2F`, `%3F`, `//`, `..`, `+` and an empty query reach the
function as the caller sent them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from holdfast.function import FunctionRef

ASYNC_PREFIX = b"/async-function/"
SYNC_PREFIX = b"/function/"

# Two DNS labels and the dot have 127 letters. Names are remembered, so a caller's must not be as long as it likes.
_TARGET = re.compile(rb"/(?:async-)?function/([-a-zA-Z_0-9.]{1,253})(/[^?]*)?(\?.*)?", re.DOTALL)

_MOST_NAMES = 4096


class Route(NamedTuple):
    """A function's name and the target that the function itself sees: path and query, starting with a slash."""

    name: bytes
    target: bytes


def read_route(target: bytes) -> Route | None:
    """Take `/function/<name>…` or `/async-function/<name>…` apart; None when no function name stands there.

    HOT: 60 ns for a short one that was seen lately, as most are; 0.8 µs for others.
    """
    return _read_often(target) if len(target) <= _OFTEN_BYTES else _read(target)


def _read(target: bytes) -> Route | None:
    match = _TARGET.fullmatch(target)
    if match is None:
        return None
    name, path, query = match.groups()
    return Route(name, (path or b"/") + (query or b""))


_OFTEN_BYTES = 200
_read_often = lru_cache(maxsize=1024)(_read)


class Names:
    """Function references by the name in the route, remembered: parsing costs more than a look-up."""

    def __init__(self, default_namespace: str) -> None:
        self._default = default_namespace
        self._refs: dict[bytes, FunctionRef] = {}

    def __getitem__(self, name: bytes) -> FunctionRef:
        ref = self._refs.get(name)
        if ref is None:
            if len(self._refs) >= _MOST_NAMES:
                # Names come from callers: forget all rather than grow.
                self._refs.clear()
            ref = self._refs[name] = FunctionRef.parse(name.decode("ascii"), self._default)
        return ref
