"""An accepted call: what has to be run, for whom, and where its result goes. No I/O.

The request itself is an HTTP/1.1 message (see docs/explain/queued-request.md); everything the system needs to know
without opening it is a field here.
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple, NewType, Self

from holdfast.function import FunctionRef

CallId = NewType("CallId", str)

# A caller may bring an id of its own: it becomes part of a NATS subject and of log lines, hence the narrow alphabet.
_CALL_ID = re.compile(rb"[A-Za-z0-9_-]{1,128}")
_STORED_BODY = re.compile(
    r"((?:request|result)\.[A-Za-z0-9_-]{1,128}\.[A-Za-z0-9_-]{1,64}) ([0-9]{1,15}) ([0-9a-f]{64})"
)
_ISSUED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_PROVIDER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
CALL_ID_RULE = "1 to 128 characters of A-Z, a-z, 0-9, _ and -"


def new_call_id() -> CallId:
    """A random UUID of version 8: 122 random bits, so that an id cannot be guessed. HOT: 1 µs, with `uuid.UUID` 3."""
    return issued_id(os.urandom(16).hex())


def issued_id(digits: str) -> CallId:
    """The id that 32 hexadecimal digits make, in the form that only gateways give: a UUID of version 8.

    Callers bring random ids of version 4, so this form tells that a gateway made an id and another call has it. RFC
    9562, section 5.8: the 13th digit is the version, the first two bits of the 17th are 10, the rest is free.
    """
    variant = _VARIANTS[digits[16]]
    return CallId(f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}")


def is_issued_id(call_id: str) -> bool:
    """Whether an id has the form that gateways give: whoever brings it did not make it up, or hopes to be believed."""
    return _ISSUED.fullmatch(call_id) is not None


def is_call_id(value: bytes) -> bool:
    """Whether a caller's own `X-Call-Id` can be kept."""
    return _CALL_ID.fullmatch(value) is not None


def is_provider_id(text: str) -> bool:
    """Whether a text can be a provider's id, which becomes a word of subjects and a header's value."""
    return _PROVIDER_ID.fullmatch(text) is not None


def is_instant(value: Any) -> bool:
    """Whether a stored value can be an instant in Unix nanoseconds; the year 5138 is far enough."""
    return isinstance(value, int) and 0 <= value < 10**20


class StoredBody(NamedTuple):
    """A body that is too large to travel inside a message: where its pieces are, and what they are together."""

    name: str
    """`request.<call id>.<id of the body>` or `result.…`: subject words, so that a body is found by its call."""
    size: int
    """In bytes."""
    sha256: str
    """Of the whole, in hexadecimal digits."""

    @classmethod
    def parse(cls, text: str) -> StoredBody:
        """Read what `str` wrote. Raises ValueError."""
        match = _STORED_BODY.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:200]!r} names no stored body")
        name, size, sha256 = match.groups()
        return cls(name, int(size), sha256)

    def __str__(self) -> str:
        return f"{self.name} {self.size} {self.sha256}"


class Attempt(NamedTuple):
    """One run of a call's function that has ended."""

    started_at_ns: int
    """Unix time in nanoseconds."""
    duration_s: float
    status: int
    """The function's HTTP status, or the one that stands for its missing answer."""
    error: str | None = None
    """Why there was no answer; None when there was one."""

    @classmethod
    def read(cls, values: Any) -> Self:
        """An attempt as JSON keeps it, a list of its four fields. Raises ValueError or TypeError for anything else."""
        started_at_ns, duration_s, status, error = values
        if (
            not is_instant(started_at_ns)
            or not isinstance(duration_s, int | float)
            or not 0 <= duration_s < float("inf")
            or not isinstance(status, int)
            or not (error is None or isinstance(error, str))
        ):
            raise ValueError(f"not an attempt: {str(values)[:200]}")
        return cls(started_at_ns, duration_s, status, error)


class Invocation(NamedTuple):
    """One accepted call. A tuple, because each call makes several of these records: they cost a third of others."""

    call_id: CallId
    """Of this accepted call alone: what finds it, stops it and shows it."""
    message_id: str
    """Unique per accepted call, also of calls that version 0.1 accepted under one call id."""
    function: FunctionRef
    accepted_at_ns: int
    """Unix time in nanoseconds: `X-Start-Time` of the 202 and of the callback."""
    callback_url: str | None
    """Absolute http(s) URL, or a path `/function/…` or `/async-function/…` of this gateway; None: nobody is told."""
    request: bytes
    """The HTTP/1.1 message for the function: without `/async-function/<name>` and `Host`, framed by its length."""
    attempts: tuple[Attempt, ...] = ()
    """The runs that have ended and were followed by a retry, oldest first."""
    failure_callback_url: str | None = None
    """Where a failure is told instead of `callback_url`; None: there as well."""
    timeout_s: float | None = None
    """The caller's own limit for one run; None: the worker's."""
    expires_at_ns: int | None = None
    """Not started by then, the call is not run any more; None: it waits for as long as it takes."""
    depth: int = 0
    """How many callbacks led to this call: 0 for one that a caller made."""
    body: StoredBody | None = None
    """Where the request's body is when it is not in `request`, which then ends with its head."""
    provider: str = ""
    """The id of the provider whose function is meant; empty: whichever has it."""
    refused_by: tuple[str, ...] = ()
    """The providers that do not have the function, of a call that did not say which is meant."""
    chain_id: CallId | None = None
    """The `X-Call-Id` that it shares with the calls before it in a chain; None: its own id."""

    @property
    def common_id(self) -> CallId:
        """What function and receiver see as `X-Call-Id`."""
        return self.chain_id or self.call_id
