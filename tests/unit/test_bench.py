"""What the bench's report and command line promise; the measuring itself is the bench's own check."""

from __future__ import annotations

import pytest

from bench import report, systems
from bench.child import BenchError
from bench.figures import Latency
from bench.scenarios import Row

FACTS = {
    "date": "today",
    "commit": "0000000",
    "cpu": "a CPU",
    "cores": 2,
    "memory_gb": 1.0,
    "kernel": "Linux",
    "python": "CPython",
    "nats_server": "v2",
    "redis_server": "6.2",
    "libraries": {},
    "data_filesystem": "ext4",
    "fsync_us": 100,
    "load_average_before": 0.0,
}


def row(peer: str, per_second: float, cpu_us: dict[str, float], p99: float) -> Row:
    return Row(
        scenario="accept",
        what="64 connections",
        durability="os",
        peer=peer,
        requests=1000,
        seconds=1.0,
        per_second=per_second,
        latency_ms=Latency(p50=1.0, p90=1.0, p99=p99, max=p99),
        cpu_us={"gateway": 0.0, "worker": 0.0, "function": 9.0, "load": 5.0, **cpu_us},
        elsewhere=0.0,
    )


def cells(table: str, peer: str) -> list[str]:
    line = next(line for line in table.splitlines() if f"| {peer} |" in line)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_peers_row_says_how_holdfast_compares_with_that_peer() -> None:
    rows = [
        row("Holdfast", 3000, {"gateway": 20, "nats-server": 10, "supervisor": 10}, 2.0),
        row("Celery", 1000, {"gateway": 100, "redis-server": 20}, 8.0),
        row("taskiq", 1500, {"gateway": 60, "nats-server": 20}, 3.0),
    ]
    table = report.markdown(rows, FACTS, [], "python -m bench", "")
    assert cells(table, "Holdfast")[-3:] == ["", "", ""]
    assert cells(table, "Celery")[-3:] == ["3.0", "3.0", "4.0"]
    assert cells(table, "taskiq")[-3:] == ["2.0", "2.0", "1.5"]


def test_the_servers_cost_stands_in_one_column_whichever_server_it_is() -> None:
    rows = [row("Celery", 1000, {"redis-server": 20}, 8.0), row("taskiq", 1500, {"nats-server": 30}, 3.0)]
    table = report.markdown(rows, FACTS, [], "python -m bench", "")
    column = cells(table, "system").index("server µs")
    assert cells(table, "Celery")[column] == "20"
    assert cells(table, "taskiq")[column] == "30"
    assert cells(table, "taskiq")[-3:] == ["", "", ""], "without Holdfast's row there is nothing to compare"


def test_a_peer_whose_libraries_are_missing_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(systems._MODULES, "celery", ("a_module_that_nobody_has",))
    with pytest.raises(BenchError, match=r"celery are not installed: run `make bench`.*--peers holdfast,naive"):
        systems.need(["holdfast", "celery"])
    systems.need(["holdfast", "naive"])
