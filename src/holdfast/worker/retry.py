"""Decide whether and when a call is run again. No I/O, no clock, no dice.

Source: OpenFaaS's documentation of retries, and RFC 9110, section 10.2.3, for `Retry-After`. `attempts` counts runs,
the first one included: a function that fails for ever under `attempts=3` is run three times. The callback's `X-Retry`
counts the retries before the run that it tells of, `X-Retry-Max` those that were allowed; on the last run they are
equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from holdfast.duration import parse_duration
from holdfast.headers import RawHeaders, first
from holdfast.settings import WorkerSettings

ANNOTATION_PREFIX = "com.openfaas.retry."
LONGEST_RETRY_AFTER_S = 24 * 3600.0
# A function may ask to be left alone for a day, not for ever: `Retry-After: 99999999999` would lose the call.
LONGEST_WAIT_S = 365 * 24 * 3600.0
# As far ahead as a call can be delayed. `min_wait: 99999999999999s` asks for a date that no calendar has: the worker
# that counts it out would fail, and after it each worker that is given the call.
MOST_ATTEMPTS = 1000
# As for the setting: what became of each run travels in the parked call's header, of which JetStream takes 64 KiB.
_ASKS_FOR_TIME = frozenset({429, 503})
_SECONDS = re.compile(rb"[0-9]+(\.[0-9]*)?")
_DOUBLINGS = 60
# Beyond this any pause is above every cap; it keeps 2 ** n a float.


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When the calls of one function are run again."""

    attempts: int
    """Runs at most, the first one included: 1 to 1000."""
    codes: frozenset[int]
    """HTTP statuses after which there is another run."""
    min_wait_s: float
    """Pause before the second run; at most a year."""
    max_wait_s: float
    """Longest computed pause; not below `min_wait_s`."""
    backoff: str
    """`exponential`: doubled each time; `full`: 0 to 100 % of that by chance; `equal`: 50 to 100 %."""

    @classmethod
    def of(cls, settings: WorkerSettings, annotations: Mapping[str, str]) -> RetryPolicy:
        """The worker's defaults with what annotations change. A value that cannot be used changes nothing.

        What can be read but is out of bounds counts as the bound: `attempts=0`, which is written to switch retries
        off, is one run.
        """
        attempts, codes = settings.max_retry_attempts, settings.retry_http_codes
        min_wait_s, max_wait_s = settings.initial_retry_wait_s, settings.max_retry_wait_s
        for name, value in annotations.items():
            if not name.startswith(ANNOTATION_PREFIX):
                continue
            try:
                match name.removeprefix(ANNOTATION_PREFIX):
                    case "attempts":
                        attempts = min(max(1, _count(value)), MOST_ATTEMPTS)
                    case "codes":
                        codes = read_codes(value)
                    case "min_wait":
                        min_wait_s = parse_duration(value)
                    case "max_wait":
                        max_wait_s = parse_duration(value)
            except ValueError:
                continue
        min_wait_s = min(min_wait_s, LONGEST_WAIT_S)
        max_wait_s = min(max(min_wait_s, max_wait_s), LONGEST_WAIT_S)
        return cls(attempts, codes, min_wait_s, max_wait_s, settings.backoff)


def read_codes(text: str) -> frozenset[int]:
    """Read a comma list of HTTP statuses. Raises ValueError, for a list of none too: empty is unset, as in settings."""
    codes = frozenset(_count(part) for part in text.split(",") if part.strip())
    if not codes or not all(100 <= code <= 599 for code in codes):
        raise ValueError(text)
    return codes


def _count(text: str) -> int:
    """Digits only: `int` would take `1_0` and `-1` as well. Raises ValueError."""
    text = text.strip()
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(text)
    return int(text)


def next_wait_s(
    policy: RetryPolicy, retries_made: int, status: int, headers: RawHeaders, *, now: datetime, dice: float
) -> float | None:
    """How long to wait before the next run; None when there is none.

    Args:
        policy: Of the function.
        retries_made: Runs before the one that has just ended.
        status: Its HTTP status.
        headers: Of its answer.
        now: Aware; a `Retry-After` date counts from it.
        dice: From 0 to 1; decides where jitter falls.
    """
    if status < 400 or retries_made + 1 >= policy.attempts:
        return None
    if status not in policy.codes and first(headers, b"x-openfaas-internal") is None:
        return None
    if status in _ASKS_FOR_TIME:
        asked_s = retry_after_s(headers, now)
        if asked_s is not None:
            return max(policy.min_wait_s, asked_s)
    wait_s = min(policy.min_wait_s * 2.0 ** min(retries_made, _DOUBLINGS), policy.max_wait_s)
    match policy.backoff:
        case "full":
            return wait_s * dice
        case "equal":
            return wait_s * (0.5 + dice / 2)
        case _:
            return wait_s


def retry_after_s(headers: RawHeaders, now: datetime) -> float | None:
    """What `Retry-After` asks for, in seconds from `now`; None when it is absent or says nothing that can be used.

    At most a day. Negative seconds and dates that have passed ask for nothing. Said twice, the longer one counts:
    whoever asks to be left alone means it.
    """
    asked = [_one_retry_after_s(value, now) for name, value in headers if name.lower() == b"retry-after"]
    usable = [seconds for seconds in asked if seconds is not None]
    return min(max(usable), LONGEST_RETRY_AFTER_S) if usable else None


def _one_retry_after_s(value: bytes, now: datetime) -> float | None:
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        at = parsedate_to_datetime(value.decode("ascii"))
    except (ValueError, TypeError, UnicodeDecodeError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    seconds = (at - now).total_seconds()
    return seconds if seconds >= 0 else None
