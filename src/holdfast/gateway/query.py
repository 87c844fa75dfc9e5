"""Values of a query, read with a refusal that says what was expected. No I/O."""

from __future__ import annotations

from holdfast.errors import BadRequest

_MOST_DIGITS = 20


def whole_number(text: str, name: str, most: int) -> int:
    """A number from 0 on. Raises BadRequest."""
    # int() refuses thousands of digits in its own way.
    if not text.isascii() or not text.isdecimal() or len(text) > _MOST_DIGITS or int(text) > most:
        raise BadRequest(400, f"{name} cannot be used: expected a whole number up to {most}, not {text[:40]!r}.")
    return int(text)
