"""The header names Holdfast speaks, and which headers may travel on. No I/O.

Headers are lists of `(name, value)` byte pairs in the order received, names in the sender's spelling: duplicates and
order carry meaning (RFC 9110, section 5.3), and a function must see what the caller sent.
"""

from __future__ import annotations

from collections.abc import Iterable

RawHeaders = list[tuple[bytes, bytes]]

CALL_ID = b"X-Call-Id"
START_TIME = b"X-Start-Time"
SERVED_BY = b"X-Served-By"
CALLBACK_URL = b"X-Callback-Url"
DURATION_SECONDS = b"X-Duration-Seconds"
FUNCTION_STATUS = b"X-Function-Status"
FUNCTION_NAME = b"X-Function-Name"
FORWARDED_FOR = b"X-Forwarded-For"
FORWARDED_HOST = b"X-Forwarded-Host"
TIMEOUT = b"X-Timeout"
DEPTH = b"X-Holdfast-Depth"
INSTANCE = b"X-Holdfast-Instance"
# Between our own parts only: for whom a request is, and who answered it. Neither callers nor functions see it.
CALLED_BACK = b"X-Holdfast-Callback"
# For whoever a callback is sent to and for nobody behind it: Holdfast's own ports know by it what must not reach them.
# Standard Webhooks writes its names in lower case.
WEBHOOK_ID = b"webhook-id"
WEBHOOK_TIMESTAMP = b"webhook-timestamp"
WEBHOOK_SIGNATURE = b"webhook-signature"

# RFC 9110, section 7.6.1, with the older names that proxies still meet.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Made anew on every hop, because the message that travels on is framed and addressed anew.
MADE_ANEW = frozenset({b"host", b"content-length", b"expect"})
NOT_FORWARDED = HOP_BY_HOP | MADE_ANEW | {CALLED_BACK.lower()}

# What only Holdfast may say in an answer: a function's own are replaced, whichever way its answer travels.
RESERVED_IN_ANSWER = frozenset(name.lower() for name in (CALL_ID, START_TIME, SERVED_BY, INSTANCE))

# The same for a callback, which says more.
RESERVED_IN_CALLBACK = RESERVED_IN_ANSWER | frozenset(
    name.lower()
    for name in (
        DURATION_SECONDS,
        FUNCTION_STATUS,
        FUNCTION_NAME,
        b"X-Retry",
        b"X-Retry-Max",
        b"User-Agent",
        DEPTH,
        WEBHOOK_ID,
        WEBHOOK_TIMESTAMP,
        WEBHOOK_SIGNATURE,
    )
)


def named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The lower-case header names that `Connection` declares hop-by-hop, empty in almost every message."""
    named: set[bytes] = set()
    for name, value in headers:
        if len(name) == 10 and name.lower() == b"connection":
            named.update(token.strip().lower() for token in value.split(b","))
    named.discard(b"")
    return frozenset(named)


def forwardable(headers: Iterable[tuple[bytes, bytes]], without: frozenset[bytes] = NOT_FORWARDED) -> RawHeaders:
    """The headers that travel on: all but `without` (lower-case names) and those that `Connection` names."""
    headers = list(headers)
    named = named_by_connection(headers)
    hidden = without | named if named else without
    return [(name, value) for name, value in headers if name.lower() not in hidden]


def first(headers: Iterable[tuple[bytes, bytes]], lower_name: bytes) -> bytes | None:
    """The first value of a header, by its lower-case name; None when it is absent."""
    for name, value in headers:
        if name.lower() == lower_name:
            return value
    return None


def without(headers: RawHeaders, lower_name: bytes) -> RawHeaders:
    """The headers but for those of one name; the list itself when it has none."""
    if first(headers, lower_name) is None:
        return headers
    return [header for header in headers if header[0].lower() != lower_name]
