"""Decide what becomes of a call once a run of it has ended. No I/O, no clock, no dice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from holdfast.queue.record import CallStatus
from holdfast.worker.outcome import Outcome
from holdfast.worker.retry import RetryPolicy, next_wait_s

FIRST_FAILURE_STATUS = 400


@dataclass(frozen=True, slots=True)
class RunAgain:
    """The call is run again after `wait_s`."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class End:
    """The call has ended. `reason` says why, when it failed."""

    status: CallStatus
    reason: str | None = None


SUCCEEDED = End(CallStatus.SUCCEEDED)


def succeeded(outcome: Outcome) -> bool:
    """Whether the call has ended well: what `decide` looks at first, without policy, clock and dice."""
    return outcome.status < FIRST_FAILURE_STATUS


def decide(outcome: Outcome, retries_made: int, policy: RetryPolicy, *, now: datetime, dice: float) -> RunAgain | End:
    """What follows a run: the policy's retry, or the end that the function's answer tells.

    An answer below 400 is a success; what the function says with 400 and more is a failure, whoever's fault it was.
    """
    if succeeded(outcome):
        return SUCCEEDED
    wait_s = next_wait_s(policy, retries_made, outcome.status, outcome.headers, now=now, dice=dice)
    if wait_s is not None:
        return RunAgain(wait_s)
    said = outcome.failure or f"the function answered {outcome.status}"
    runs = retries_made + 1
    return End(CallStatus.FAILED, said if runs == 1 else f"{said}, after {runs} runs")
