"""An accepted call: what has to be run, for whom, and where its result goes. No I/O.

The request itself is an HTTP/1.1 message (see docs/explain/queued-request.md); everything the system needs to know
without opening it is a field here.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import NewType

from holdfast.function import FunctionRef

CallId = NewType("CallId", str)

# A caller may bring an id of its own: it becomes part of a NATS subject and of log lines, hence the narrow alphabet.
_CALL_ID = re.compile(rb"[A-Za-z0-9_-]{1,128}")
CALL_ID_RULE = "1 to 128 characters of A-Z, a-z, 0-9, _ and -"


def new_call_id() -> CallId:
    """A random UUID (version 4), as OpenFaaS gives: 122 random bits, so that an id cannot be guessed."""
    return CallId(str(uuid.uuid4()))


def is_call_id(value: bytes) -> bool:
    """Whether a caller's own `X-Call-Id` can be kept."""
    return _CALL_ID.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Invocation:
    """One accepted call."""

    call_id: CallId
    function: FunctionRef
    accepted_at_ns: int
    """Unix time in nanoseconds: `X-Start-Time` of the 202 and of the callback."""
    callback_url: str | None
    """Absolute http(s) URL, or a path `/function/…` or `/async-function/…` of this gateway; None: nobody is told."""
    request: bytes
    """The HTTP/1.1 message for the function: without `/async-function/<name>` and `Host`, framed by its length."""
