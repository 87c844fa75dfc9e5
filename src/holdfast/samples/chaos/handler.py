"""Answers what it was told, to try out what a failing function does to its callers.

    POST /set {"status": 503, "delay": "1s", "body": "busy", "headers": {"Retry-After": "2"}, "times": 3}

sets the answer of the next three calls; without `times` that of all calls until /set or POST /reset. One call alone is
told by its query: ?status=429&delay=250ms&body=busy. Told nothing, it answers 200 "ok".
"""

import json
import threading
import time
from typing import Any

from holdfast.duration import parse_duration

USUAL: dict[str, Any] = {"status": 200, "delay": "0s", "body": "ok\n", "headers": {}, "times": None}

lock = threading.Lock()
told = dict(USUAL)


def handle(event: Any, _context: Any) -> dict[str, Any] | str:
    try:
        if event.path == "/set" and event.method == "POST":
            wanted = checked(json.loads(event.body))
            with lock:
                told.update(wanted)
            return "set\n"
        if event.path == "/reset" and event.method == "POST":
            with lock:
                told.update(USUAL)
            return "reset\n"
        asked = {name: event.query[name] for name in ("status", "delay", "body") if name in event.query}
        answer = checked({**next_answer(), **asked})
    except (ValueError, TypeError) as error:  # TypeError: a list where a number belongs
        return {"statusCode": 400, "body": f"{error}\n"}
    time.sleep(parse_duration(answer["delay"]))
    return {"statusCode": answer["status"], "body": answer["body"], "headers": answer["headers"]}


def next_answer() -> dict[str, Any]:
    with lock:
        answer = dict(told)
        if told["times"] is not None:
            told["times"] -= 1
            if told["times"] == 0:
                told.update(USUAL)
    return {**answer, "times": None}


def checked(wanted: dict[str, Any]) -> dict[str, Any]:
    """The whole answer, usual where nothing else is wanted. Raises ValueError."""
    unknown = set(wanted) - set(USUAL)
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: not known, unlike {', '.join(USUAL)}")
    answer = {**USUAL, **wanted}
    answer["status"] = int(answer["status"])
    if not 200 <= answer["status"] <= 599:
        raise ValueError(f"status: expected 200 to 599, not {answer['status']}")
    answer["delay"] = str(answer["delay"])
    parse_duration(answer["delay"])
    answer["headers"] = dict(answer["headers"])
    if answer["times"] is not None:
        answer["times"] = int(answer["times"])
        if answer["times"] < 1:
            raise ValueError("times: expected 1 or more")
    return answer
