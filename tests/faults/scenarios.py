"""The scenarios, by the names that `--only` takes."""

from __future__ import annotations

from tests.faults import cancels, counts, cuts, inputs, kills, many, pauses, receivers, replicas, steps, storage
from tests.faults.row import Scenario

SCENARIOS: dict[str, Scenario] = {
    "killed-at-each-step": steps.killed,
    "stopped-at-each-step": steps.stopped,
    "random-kills": kills.random_kills,
    "random-kills-with-fsync": kills.random_kills_with_fsync,
    "paused": pauses.paused,
    "hanging-receivers": receivers.hanging,
    "killed-while-cancelled": cancels.killed_while_cancelled,
    "cancelled-undisturbed": cancels.cancelled_undisturbed,
    "killed-while-read": inputs.killed_while_read,
    "cut-connections": cuts.cut,
    "nats-restarted": storage.restarted,
    "stream-deleted": storage.deleted,
    "disk-full": storage.disk_full,
    "leader-killed": replicas.leader_killed,
    "leader-cut-off": replicas.leader_cut_off,
    "counts-nats-stopped": counts.nats_stopped,
    "counts-processes-killed": counts.processes_killed,
    "counts-leaders-killed": counts.leaders_killed,
    "counts-replayed-at-once": counts.replayed_at_once,
    "one-of-many-cancelled": many.cancel_one,
    "many-parked": many.parked,
    "overtaken": many.overtaken,
}
