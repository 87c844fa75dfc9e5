"""Replicas that could not be reached lately: not tried again at once, and told of in the log.

A provider goes on naming a replica that it sees running, though nobody here can reach it: asked again at once it would
be tried again at once, in a circle that costs two processors. So such a replica rests, longer each time. What is
logged is the beginning of a wait, once for each function in a while, with what was tried and why that failed.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from holdfast.function import FunctionRef
from holdfast.http1.client import Origin

FIRST_REST_S = 0.1
LONGEST_REST_S = 2.0
FORGET_S = 10.0
# A replica that has not failed for so long begins anew.
SAY_AGAIN_S = 30.0
MOST_KEPT = 4096
MOST_SHOWN = 10

log = structlog.get_logger()


class _Failure:
    """Of one replica."""

    __slots__ = ("rest_s", "rests_until", "why")

    def __init__(self) -> None:
        self.rest_s = 0.0
        self.rests_until = 0.0
        self.why = ""


class Unreachable:
    """Of one directory. Instants are its loop's time."""

    def __init__(self) -> None:
        self._failed: dict[Origin, _Failure] = {}
        self._said: dict[FunctionRef, float] = {}

    def failed(self, origin: Origin, why: str, now: float) -> bool:
        """A replica could not be reached: it rests. Gives whether that is news, or of calls that failed together."""
        failure = self._failed.get(origin)
        if failure is None or now - failure.rests_until > FORGET_S:
            if len(self._failed) >= MOST_KEPT:
                self._failed.clear()
            failure = self._failed[origin] = _Failure()
        failure.why = why
        if now < failure.rests_until:
            return False
        failure.rest_s = min(max(FIRST_REST_S, 2 * failure.rest_s), LONGEST_REST_S)
        failure.rests_until = now + failure.rest_s
        return True

    def rests_until(self, origin: Origin, now: float) -> float:
        """Until when a replica is not to be tried; 0 when it may be."""
        failure = self._failed.get(origin)
        return failure.rests_until if failure is not None and failure.rests_until > now else 0.0

    def why(self, named: Iterable[Origin]) -> str:
        """Why the first of these that could not be reached could not; empty: all could."""
        return next((self._failed[origin].why for origin in named if origin in self._failed), "")

    def is_due(self, ref: FunctionRef, now: float) -> bool:
        """Whether `say` would say anything."""
        return self._said.get(ref, 0.0) <= now

    def say(self, ref: FunctionRef, named: Iterable[Origin], trouble: str, now: float) -> None:
        """Log that a call begins to wait, unless that was said of its function a moment ago."""
        if not self.is_due(ref, now):
            return
        if len(self._said) >= MOST_KEPT:
            self._said.clear()
        self._said[ref] = now + SAY_AGAIN_S
        failures = {str(origin): self._failed[origin].why for origin in named if origin in self._failed}
        log.warning(
            "a call waits, no replica of its function can be called",
            function=str(ref),
            reason=trouble or ("those that are ready could not be reached" if failures else "none is ready"),
            tried=dict(list(failures.items())[:MOST_SHOWN]),
        )
