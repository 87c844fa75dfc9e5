"""What the gateway tells a caller: the texts of refusals, which are counted here, and the headers every answer carries.

No I/O.
"""

from __future__ import annotations

import time

from holdfast import __version__, telemetry
from holdfast.http1.server import Exchange

SERVED_BY = f"holdfast/{__version__}".encode()

_TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"


REPLAYED = b"Idempotent-Replayed"
"""The header that tells of a key whose call had been accepted before."""


def accepted_headers(common_id: bytes, start_time_ns: int, call_id: bytes, *, replayed: bool) -> bytes:
    """The three headers of OpenFaaS's gateway, as lines, and where to ask for the call. HOT: 0.5 µs."""
    lines = b"X-Call-Id: %b\r\nX-Start-Time: %d\r\nX-Served-By: %b\r\nLocation: /async-function/%b\r\n" % (
        common_id,
        start_time_ns,
        SERVED_BY,
        call_id,
    )
    return b"%b%b: true\r\n" % (lines, REPLAYED) if replayed else lines


def refuse(exchange: Exchange, status: int, text: str, headers: bytes = b"") -> None:
    """Refuse a call: count that, and answer with a status and one clear text."""
    count_refusal(status)
    answer(exchange, status, text, headers)


def count_refusal(status: int) -> None:
    """Count a call that is refused, or a request that cannot be read. Every refusal comes here, and only here."""
    telemetry.REFUSED.labels(str(status)).inc()


def answer(exchange: Exchange, status: int, text: str, headers: bytes = b"") -> None:
    """Answer a request that is no call with a status and one clear text."""
    exchange.respond(status, _TEXT + b"X-Served-By: " + SERVED_BY + b"\r\n" + headers, text.encode() + b"\n")


def failed(exchange: Exchange) -> None:
    """Answer for a mistake of ours, unless an answer has begun: then break it off."""
    if exchange.answered:
        exchange.abort()
    else:
        refuse(exchange, 500, "the gateway failed on this request: its log says why.")


def not_a_route(target: bytes) -> str:
    """For a target that names no function."""
    return (
        f"{_shown(target)} names no function: write /function/<name> or /async-function/<name>, the name made of "
        "A-Z, a-z, 0-9, '.', '_' and '-'."
    )


def unknown_function(ref: str) -> str:
    """For a function that is not deployed."""
    return f"function {ref} is not deployed: check the name and namespace against `faas list`."


def _shown(target: bytes) -> str:
    text = target[:100].decode("ascii", "backslashreplace")
    return repr(text if len(target) <= 100 else text + "…")


def now_ns() -> int:
    """The wall clock in nanoseconds since 1970, as X-Start-Time gives it."""
    return time.time_ns()
