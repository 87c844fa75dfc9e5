"""The name of a queue, and the annotation by which a function chooses one. No I/O.

A queue's name is the first word of its messages' subjects and part of its stream's name, so that it must be one word
of NATS and must not be a word that stands for something else there.
"""

from __future__ import annotations

import re

ANNOTATION = "com.openfaas.queue"
"""A function's annotation with the queue that its asynchronous calls go to; without it they go to the default queue."""
RULE = "1 to 64 of A-Z, a-z, 0-9, _ and -, not starting with _"

_NAME = re.compile(r"[A-Za-z0-9-][A-Za-z0-9_-]{0,63}")
# First words of subjects that are taken: ours, for records, dead letters and what parts tell one another. NATS's own
# begin with $ or _, which the rule leaves out.
RESERVED = frozenset({"holdfast"})


def problem_with(name: str) -> str | None:
    """Why a queue cannot have this name, in words that say what would work; None when it can."""
    if name in RESERVED:
        return f"a queue cannot be named {name!r}: this name is Holdfast's own"
    if _NAME.fullmatch(name) is None:
        return f"a queue cannot be named {name[:100]!r}: expected {RULE}"
    return None
