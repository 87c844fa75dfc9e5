"""Sleeps, then says for how long: SLEEP by default, per call the header X-Sleep or the query `duration`.

It blocks its thread as a slow library would; other calls go on meanwhile.
"""

import os
import time
from typing import Any

from holdfast.duration import format_duration, parse_duration

DEFAULT = os.environ.get("SLEEP", "2s")
LONGEST_S = 24 * 3600


def handle(event: Any, _context: Any) -> dict[str, Any] | str:
    text = event.query.get("duration") or event.headers.get("X-Sleep") or DEFAULT
    try:
        seconds = min(parse_duration(text), LONGEST_S)
    except ValueError as error:
        return {"statusCode": 400, "body": f"{error}\n"}
    time.sleep(seconds)
    return f"slept {format_duration(seconds)}\n"
