"""How the run of a call ended: the function's answer, or what stands in its place. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.headers import RawHeaders
from holdfast.invocation import StoredBody

_TEXT: RawHeaders = [(b"Content-Type", b"text/plain; charset=utf-8")]


class Outcome(NamedTuple):
    """What the callback tells."""

    status: int
    """The function's HTTP status; without an answer, the status a synchronous caller would have got."""
    headers: RawHeaders
    body: bytes
    duration_s: float
    """From sending the request to the end of the answer; of the last attempt, by the monotonic clock."""
    started_at_ns: int
    """When the request was sent, Unix time in nanoseconds."""
    failure: str | None = None
    """Why there is no answer of the function's own; None when there is one, whatever its status."""
    stored: StoredBody | None = None
    """Where the body is when it is too large to be held here, in `body`."""

    @property
    def size(self) -> int:
        """Length of the body in bytes."""
        return len(self.body) if self.stored is None else self.stored.size

    @property
    def word(self) -> str:
        """How it ended in one word, for metrics: the function's status, or what was wrong when it gave none."""
        return str(self.status) if self.failure is None else _NO_ANSWER.get(self.status, "no_answer")


# The statuses that stand for missing answers.
_NO_ANSWER = {404: "not_deployed", 500: "workers_ended", 502: "no_answer", 503: "unreachable", 504: "timed_out"}


def no_answer(status: int, why: str, duration_s: float, started_at_ns: int) -> Outcome:
    """An outcome without an answer: the reason becomes the body, so that the callback's receiver can read it."""
    return Outcome(status, _TEXT, why.encode() + b"\n", duration_s, started_at_ns, why)
