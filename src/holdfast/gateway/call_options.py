"""What a caller may ask of one asynchronous call besides running it: read from its headers. No I/O.

    X-Callback-Url            where the result goes
    X-Failure-Callback-Url    where a failure goes instead
    X-Delay                   not run before this long has passed
    X-Expires-After           not run any more when it has not started by then
    X-Timeout                 longest duration of one run, within the worker's own limit
    Idempotency-Key           the same key and request again: the same call, run once
    X-Holdfast-Depth          not for people: how many callbacks led to the call that this one is a callback of

The last but one is the header of draft-ietf-httpapi-idempotency-key-header; the first is OpenFaaS's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from holdfast.callback_guard import CallbackGuard, names_function
from holdfast.duration import parse_duration
from holdfast.errors import BadRequest
from holdfast.http1.client import Origin
from holdfast.invocation import Invocation, StoredBody

MOST_URL_BYTES = 8192
MOST_KEY_BYTES = 255
LONGEST_DELAY_S = 365 * 24 * 3600.0
NAMES = frozenset({b"x-failure-callback-url", b"x-delay", b"x-expires-after", b"x-timeout", b"idempotency-key"})
"""Lower-case names of the headers that few calls have; they are copied to the function as well."""

TWICE = "%s is there more than once: which one counts?"


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one call asks for."""

    failure_callback_url: str | None = None
    delay_s: float = 0.0
    expires_after_s: float | None = None
    timeout_s: float | None = None
    idempotency_key: str | None = None

    @classmethod
    def read(cls, found: Mapping[bytes, bytes], guard: CallbackGuard) -> CallOptions:
        """Read the headers, by their lower-case names. Raises BadRequest for one that cannot be used."""
        failure_url = found.get(b"x-failure-callback-url")
        delay = found.get(b"x-delay")
        expires_after = found.get(b"x-expires-after")
        timeout = found.get(b"x-timeout")
        key = found.get(b"idempotency-key")
        return cls(
            None if failure_url is None else check_callback_url(failure_url, guard, "X-Failure-Callback-Url"),
            0.0 if delay is None else _duration("X-Delay", delay),
            None if expires_after is None else _duration("X-Expires-After", expires_after),
            None if timeout is None else _duration("X-Timeout", timeout),
            None if key is None else _key(key),
        )

    def apply(self, invocation: Invocation) -> Invocation:
        """The call with what was asked for."""
        expires_at_ns = None
        if self.expires_after_s is not None:
            expires_at_ns = invocation.accepted_at_ns + int((self.delay_s + self.expires_after_s) * 1e9)
        return invocation._replace(
            failure_callback_url=self.failure_callback_url, timeout_s=self.timeout_s, expires_at_ns=expires_at_ns
        )


def fingerprint(request: bytes, stored: StoredBody | None = None) -> str:
    """What requests share that are the same to a caller: target and body, not the headers of one sending."""
    head, _, body = request.partition(b"\r\n\r\n")
    if stored is not None:
        body = stored.sha256.encode()
    digest = hashlib.sha256(head.partition(b"\r\n")[0] + b"\n" + body)
    return digest.hexdigest()[:32]


@lru_cache(maxsize=1024)
def check_callback_url(value: bytes, guard: CallbackGuard, header: str = "X-Callback-Url") -> str:
    """The URL as text. Raises BadRequest unless it is a path to a function here, or absolute http(s) and not refused.

    The guard looks at what stands there; what a name leads to is looked at by the worker when it connects.
    """
    rule = "expected an absolute URL such as https://example.com/done, or /function/<name> or /async-function/<name>"
    if not value.isascii():
        raise BadRequest(400, f"{header} contains a character beyond ASCII: write the host in punycode; {rule}.")
    try:
        text = value.decode("ascii")
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadRequest(400, f"{header} cannot be used: {error}; {rule}.") from error
    if len(value) > MOST_URL_BYTES:
        raise BadRequest(400, f"{header} is longer than {MOST_URL_BYTES} bytes.")
    if any(character <= " " or character == "\x7f" for character in text):
        raise BadRequest(400, f"{header} contains a space or control character; {rule}.")
    if names_function(text):
        return text
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise BadRequest(400, f"{header} {text[:200]!r} cannot be used: {rule}.")
    if parts.username is not None or parts.password is not None:
        raise BadRequest(400, f"{header} must not contain a user or password.")
    refusal = guard.refusal(Origin.parse(text), parts.path or "/")
    if refusal is not None:
        raise BadRequest(
            400,
            f"{header} cannot be used: {refusal}; callback_allow lists where callbacks may go besides public hosts.",
        )
    return text


def read_depth(value: bytes, most: int) -> int:
    """How many callbacks led to a call that comes with this `X-Holdfast-Depth`, the depth of the call before it.

    Raises BadRequest with status 508 when they are more than `most`.
    """
    if not value.isdigit() or len(value) > 9:
        raise BadRequest(400, "X-Holdfast-Depth cannot be used: expected the number that a callback came with.")
    depth = int(value) + 1
    if depth > most:
        raise BadRequest(
            508,
            f"{depth} callbacks led to this call, {most} may (callback_max_depth): does the chain lead back to itself?",
        )
    return depth


def _duration(header: str, value: bytes) -> float:
    try:
        seconds = parse_duration(value.decode("latin-1"))
    except ValueError as error:
        raise BadRequest(400, f"{header} cannot be used: {error}.") from error
    if not 0 < seconds <= LONGEST_DELAY_S:
        raise BadRequest(400, f"{header} cannot be used: expected a duration above zero and up to a year.")
    return seconds


def _key(value: bytes) -> str:
    if not 0 < len(value) <= MOST_KEY_BYTES or any(not 0x21 <= byte <= 0x7E for byte in value):
        raise BadRequest(400, f"Idempotency-Key cannot be used: expected 1 to {MOST_KEY_BYTES} visible characters.")
    return value.decode("ascii")
