"""A function that writes down each of its runs, and answers as the call asks it to.

    X-Takes: 0.2          seconds that a run takes
    X-Plan: 503,503,200   the statuses of the first run, the second, and all others

One line in the file `journal` for each run, when it begins: the call's id and the machine's monotonic clock.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from typing import Any

_journal = os.open(os.environ["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)  # noqa: SIM112 - our own name
_runs: Counter[str] = Counter()
_lock = threading.Lock()


def handle(event: Any, _context: Any) -> dict[str, Any]:
    headers = {name.lower(): value for name, value in event.headers.items()}
    call_id = headers["x-call-id"]
    os.write(_journal, f"{call_id} {time.monotonic()!r}\n".encode())
    plan = headers.get("x-plan", "200").split(",")
    with _lock:
        number = _runs[call_id]
        _runs[call_id] += 1
    time.sleep(float(headers.get("x-takes", "0")))
    return {"statusCode": int(plan[min(number, len(plan) - 1)]), "body": event.body}
