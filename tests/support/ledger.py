"""The sum that must be right after any fault: what was accepted against what was run, called back and recorded. No I/O.

    lost            accepted, and nothing knows of it: no record
    unfinished      accepted, and its record says that it has not ended
    untold          ended, its callback wanted and never confirmed, though its record does not say that it was given up
    run_cancelled   begun after its cancelling was confirmed
    unexplained     run more often than its record says, and nothing happened in between that would explain it
    explained       the same, with a fault between two of its runs: what "at least once" allows

Times are those of the machine's monotonic clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ENDS = frozenset({"succeeded", "failed", "cancelled", "expired"})
AFTERMATH_S = 15.0
# How long after a fault a call may come again that was under way in it: `ack_wait`, a reconnect, a slow machine.


class Run(NamedTuple):
    """A function began to run a call."""

    call_id: str
    at: float


class Fault(NamedTuple):
    """Something that was done to the system."""

    what: str
    began: float
    ended: float


class Asked(NamedTuple):
    """A call that was sent."""

    call_id: str
    at: float
    kind: str
    callback: bool
    """Whether it wanted one."""


@dataclass
class Sent:
    """What became of the calls that were sent, as their sender knows."""

    accepted: dict[str, Asked] = field(default_factory=dict)
    """Those that were answered 202."""
    refused: Counter[int] = field(default_factory=Counter)
    """By status."""
    unanswered: set[str] = field(default_factory=set)
    """Those whose connection ended before an answer: they may have been stored or not."""
    doubtful: set[str] = field(default_factory=set)
    """Those that were refused and may run all the same: 503, "not confirmed as stored"."""
    cancelled: dict[str, float] = field(default_factory=dict)
    """When their cancelling was confirmed."""

    @property
    def ids(self) -> set[str]:
        """All that were tried."""
        return {*self.accepted, *self.unanswered, *self.doubtful}


@dataclass(frozen=True)
class Balance:
    """What the ledger says."""

    accepted: int
    statuses: Counter[str]
    """Of the records, by status."""
    runs: int
    confirmed_callbacks: int
    lost: list[str]
    unfinished: list[str]
    untold: list[str]
    run_cancelled: list[str]
    strangers: list[str]
    """Run, and nobody ever sent them."""
    explained: list[str]
    unexplained: list[str]
    told_again: int
    """Callbacks beyond the first confirmed one of a call."""

    @property
    def ended(self) -> int:
        """Accepted calls whose record says how they ended."""
        return sum(self.statuses[status] for status in ENDS)

    @property
    def holds(self) -> bool:
        """Whether every accepted call has one end, and each further run its reason."""
        wrong = (self.lost, self.unfinished, self.untold, self.run_cancelled, self.strangers, self.unexplained)
        return not any(wrong) and self.ended == self.accepted

    def __str__(self) -> str:
        parts = [f"accepted {self.accepted}", *(f"{status} {n}" for status, n in sorted(self.statuses.items()))]
        parts += [f"runs {self.runs}", f"callbacks {self.confirmed_callbacks}", f"told again {self.told_again}"]
        for name in ("lost", "unfinished", "untold", "run_cancelled", "strangers", "explained", "unexplained"):
            found: list[str] = getattr(self, name)
            parts.append(f"{name} {len(found)}" + (f" ({', '.join(found[:3])} …)" if found else ""))
        return ", ".join(parts)


def balance(
    sent: Sent,
    runs: Iterable[Run],
    confirmed: Counter[str],
    records: Mapping[str, Mapping[str, Any] | None],
    faults: Iterable[Fault] = (),
) -> Balance:
    """Draw the sum. `confirmed`: how often each call's callback was answered 2xx; `records`: as a gateway tells."""
    begun: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        begun[run.call_id].append(run.at)
    known = list(faults)
    tried = sent.ids
    explained: list[str] = []
    unexplained: list[str] = []
    for call_id, times in begun.items():
        if len(times) > _runs_recorded(records.get(call_id)):
            (explained if _fault_between(min(times), max(times), known) else unexplained).append(call_id)
    ended = {call_id for call_id, record in records.items() if record is not None and record["status"] in ENDS}
    return Balance(
        accepted=len(sent.accepted),
        statuses=Counter(str(record["status"]) for record in records.values() if record is not None),
        runs=sum(map(len, begun.values())),
        confirmed_callbacks=len(confirmed),
        lost=[call_id for call_id in sent.accepted if records.get(call_id) is None],
        unfinished=[call_id for call_id in sent.accepted if records.get(call_id) is not None and call_id not in ended],
        untold=[
            call_id
            for call_id, asked in sent.accepted.items()
            if asked.callback and call_id in ended and not confirmed[call_id] and _owed(records[call_id])
        ],
        run_cancelled=[
            call_id for call_id, at in sent.cancelled.items() if any(begun_at > at for begun_at in begun[call_id])
        ],
        strangers=[call_id for call_id in begun if begun[call_id] and call_id not in tried],
        explained=explained,
        unexplained=unexplained,
        told_again=sum(count - 1 for count in confirmed.values()),
    )


def _runs_recorded(record: Mapping[str, Any] | None) -> int:
    """How often a call was run, as its record says; without a record once is as much as can be."""
    if record is None:
        return 1
    # The run that a cancel ended is not among the attempts.
    attempts: int = len(record["attempts"])
    return attempts + 1 if record["status"] == "cancelled" else attempts


def _fault_between(first: float, last: float, faults: list[Fault]) -> bool:
    """Whether a fault lies between two runs, or lay so shortly before that its aftermath reaches in."""
    return any(fault.began <= last and first <= fault.ended + AFTERMATH_S for fault in faults)


def _owed(record: Mapping[str, Any] | None) -> bool:
    """Whether a call's end has to be told: neither it nor its callback was cancelled, and that was not given up."""
    if record is None or record["status"] == "cancelled":
        return False
    callback = record["callback"]
    return callback is None or callback["status"] not in {"failed", "cancelled"}


def read_journal(path: Path) -> list[Run]:
    """What the journal's function wrote down. A line that a killed machine left unfinished is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        call_id, _, at = line.partition(" ")
        if at:
            found.append(Run(call_id, float(at)))
    return found
