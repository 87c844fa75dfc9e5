"""Durations as OpenFaaS writes them: an integer is seconds, anything else a Go duration such as `1m30s`. No I/O."""

from __future__ import annotations

import durationpy

# Every unit with nine digits fits; what callers send is read in no time.
_LONGEST = 100


def parse_duration(text: str) -> float:
    """Read a duration into seconds. Raises ValueError unless it is a whole number or a Go duration, not negative."""
    text = text.strip()
    if len(text) > _LONGEST:
        raise ValueError(f"{text[:_LONGEST]!r}… is not a duration such as 60s or 1m30s")
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        seconds: float = durationpy.from_str(text).total_seconds()
    except (durationpy.DurationError, ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a duration such as 60s or 1m30s") from error
    if not text or seconds < 0:
        raise ValueError(f"{text!r} is not a duration such as 60s or 1m30s")
    return seconds


def format_duration(seconds: float) -> str:
    """Write seconds the way `parse_duration` reads them: 90.0 becomes `1m30s`, 0.25 becomes `250ms`."""
    if seconds == int(seconds) and seconds < 60:
        return f"{int(seconds)}s"
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else "", f"{rest:g}s" if rest else ""]
    return "".join(parts)
