"""Which record of a call may stand in place of which: one table, for all that write records. No I/O.

    what stands                      what may come in its place
    ------------------------------   ------------------------------------------------------------------------------
    nothing, or one that aged out    anything
    waiting, scheduled               a run, a pause after a run, an end
    running, for the n-th time       the same run by another worker, the pause after it, a later run, an end
    retrying, after the n-th run     a later run, the pause after that, an end
    an end                           the same end with what has become of its callback; a replay of the call

So an end is final, and a state on the way never replaces a later one: a worker that stood still writes, when it goes
on, what was true before others went on without it. Runs tell which is later, not clocks.

    the callback stands at   it may come to
    ----------------------   ------------------------------------
    pending                  pending, delivered, failed, cancelled
    failed                   delivered, and pending once its dead letter is replayed
    cancelled                delivered: an attempt that was under way has told its receiver
    delivered                nothing: the receiver was told

What else is said of a callback in the same state, such as the number of attempts, may be written anew.
"""

from __future__ import annotations

from holdfast.queue.message import generation_of, original_of
from holdfast.queue.record import CallbackStatus, CallRecord, CallStatus

_CALLBACK_COMES_TO: dict[CallbackStatus, frozenset[CallbackStatus]] = {
    CallbackStatus.NONE: frozenset(),
    CallbackStatus.PENDING: frozenset(CallbackStatus) - {CallbackStatus.NONE},
    CallbackStatus.FAILED: frozenset({CallbackStatus.DELIVERED, CallbackStatus.PENDING}),
    CallbackStatus.CANCELLED: frozenset({CallbackStatus.DELIVERED}),
    CallbackStatus.DELIVERED: frozenset(),
}


def may_follow(stands: CallRecord, comes: CallRecord) -> bool:
    """Whether a record may be written in place of the one that stands under the same id."""
    if stands.message_id != comes.message_id:
        return _is_of_a_later_call(stands, comes)
    if stands.status.is_end:
        return is_same_end(stands, comes) and callback_may_come_to(stands.callback, comes.callback)
    return comes.status.is_end or _progress(comes) >= _progress(stands)


def is_same_end(one: CallRecord, other: CallRecord) -> bool:
    """Whether two records tell of one and the same end of one call, not of two runs that each ended it."""
    return (
        one.message_id == other.message_id
        and one.status.is_end
        and (one.status, one.finished_at_ns) == (other.status, other.finished_at_ns)
    )


def callback_may_come_to(stands: CallbackStatus, comes: CallbackStatus) -> bool:
    """Whether a callback that the record says to be in one state may be said to be in another."""
    return comes is stands or comes in _CALLBACK_COMES_TO[stands]


def _progress(record: CallRecord) -> tuple[int, bool]:
    """How far a call has come that has not ended: by the runs that have ended, and whether another has begun."""
    return len(record.attempts), record.status is CallStatus.RUNNING


def _is_of_a_later_call(stands: CallRecord, comes: CallRecord) -> bool:
    """Two calls under one id: a call and its replay, or two that 0.1 accepted with one id: the later one has it."""
    if original_of(stands.message_id) == original_of(comes.message_id):
        return generation_of(comes.message_id) > generation_of(stands.message_id)
    return comes.accepted_at_ns >= stands.accepted_at_ns
