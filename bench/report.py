"""Rows in, tables out: Markdown for people, JSON for whoever compares runs. No measuring here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.scenarios import Row

SYSTEM = ("gateway", "worker", "nats-server", "provider", "supervisor")
"""Parts whose cost is the system's own, in the order of the columns. Functions and load are nobody's merit."""

TITLES = {
    "accept": "Accept: `POST /async-function/echo` answered 202, nothing is run meanwhile",
    "run": "Run: waiting calls, no callback, 64 at once",
    "callback": "Run with callback: waiting calls, 64 at once",
    "whole": "Whole: accept, run and callback at the same time, 64 calls under way",
    "sync": "Synchronous: `POST /function/echo`",
    "idle": "Idle: one call at a time",
}

NOTES = """\
- Load generator, callback receiver, functions and the measured system share the machine's cores, so throughput is what
  is left beside them; CPU µs per request is what compares between machines and runs.
- *all µs* is the sum of gateway, worker, nats-server and supervising processes per request; the function's and the
  load's cost stand apart.
- *rate*, *CPU* and *p99* compare with the naive peer in the same row of the same run: Holdfast's throughput over the
  peer's, the peer's *all µs* and p99 over Holdfast's; above 1 Holdfast is the better one. Both systems are up during
  the whole run and take turns row by row; the other one idles.
- The naive peer: Starlette on uvicorn (uvloop, httptools, no access log), nats-py publish with confirmation and
  `Nats-Msg-Id`, a nats-py pull consumer on uvloop (64 calls at once, fetches when 16 slots are free), aiohttp without
  connection limit; the same nats-server binary and configuration, one work-queue stream in files; the same functions
  behind the same watchdog. It has no limits, retries, heartbeats or streaming.
- *elsewhere* is the share of the machine's CPU time that went to neither the measured system nor the load: other
  programs, interrupts, time taken by the host. Where it is more than a few percent, only ratios and µs say something.
- Durability `os`: confirmed is in the kernel's hands; `disk`: confirmed is on the disk (`sync_interval: always`), for
  both systems alike.
- *run* and *callback*: the calls are accepted while the worker is held still (SIGSTOP); rates are taken between 5 % and
  95 % of them.
"""


def markdown(
    rows: Sequence[Row], facts: dict[str, Any], footprints: Sequence[dict[str, Any]], command: str, problem: str
) -> str:
    """The whole report. `problem`: why it ends early, if it does."""
    lines = []
    for scenario, title in TITLES.items():
        chosen = [row for row in rows if row.scenario == scenario]
        if chosen:
            lines += [f"## {title}", "", *_table(chosen), ""]
    lines += ["## Ready, and memory", "", *_footprints(footprints), "", "## How to read it", "", NOTES]
    return whole("Benchmark", command, facts, problem, lines)


def whole(title: str, command: str, facts: dict[str, Any], problem: str, lines: Sequence[str]) -> str:
    """A report of any bench: by which command, of what, on which machine; then its lines."""
    head = [
        f"# {title}",
        "",
        f"Made by `{command}` on {facts['date']}, commit {facts['commit']}.",
        "",
        _machine(facts),
        "",
    ]
    if problem:
        head += [f"**The bench could not go on: {problem}**", ""]
    return "\n".join([*head, *lines])


def _machine(facts: dict[str, Any]) -> str:
    libraries = ", ".join(f"{name} {number}" for name, number in facts["libraries"].items())
    return (
        f"{facts['cpu']}, {facts['cores']} cores shared by servers and load, {facts['memory_gb']} GB; "
        f"{facts['kernel']}; {facts['python']}; nats-server {facts['nats_server']}; {libraries}. "
        f"Data on {facts['data_filesystem']}, one fsync {facts['fsync_us']} µs. "
        f"Load average before: {facts['load_average_before']}."
    )


def _table(rows: Sequence[Row]) -> list[str]:
    words = ["", "durability", "system"]
    numbers = [
        "per s",
        "p50 ms",
        "p99 ms",
        "gateway µs",
        "worker µs",
        "nats-server µs",
        "all µs",
        "function µs",
        "load µs",
    ]
    ratios = ["rate", "CPU", "p99"]
    lines = [line([*words, *numbers, "elsewhere", *ratios]), line(["---"] * 3 + ["--:"] * 13)]
    for row in rows:
        times, cpu = row.latency_ms, row.cpu_us
        costs = [*(cpu[part] for part in SYSTEM[:3]), all_us(row), cpu.get("function", 0), cpu.get("load", 0)]
        cells = [row.what, row.durability, row.peer, f"{row.per_second:,.0f}"]
        cells += [f"{times['p50']:.2f}", f"{times['p99']:.2f}"] if times else ["", ""]
        cells += [*(f"{cost:.0f}" for cost in costs), f"{row.elsewhere:.0%}"]
        lines.append(line(cells + _ratios(row, rows)))
    return lines + _remarks(rows)


def all_us(row: Row) -> float:
    """The system's own CPU µs per request."""
    return sum(row.cpu_us.get(part, 0.0) for part in SYSTEM)


def counterpart(row: Row, rows: Sequence[Row]) -> Row | None:
    """The other peer's row of the same measurement."""
    key = (row.scenario, row.what, row.durability)
    same = (other for other in rows if (other.scenario, other.what, other.durability) == key)
    return next((other for other in same if other.peer != row.peer), None)


def _ratios(row: Row, rows: Sequence[Row]) -> list[str]:
    other = counterpart(row, rows)
    if other is None or row.peer != "Holdfast":
        return ["", "", ""]
    # Calls one at a time with a rest between have a rate that says nothing.
    rate = "" if row.scenario == "idle" else f"{row.per_second / other.per_second:.1f}"
    mine, its = row.latency_ms, other.latency_ms
    return [rate, f"{all_us(other) / all_us(row):.1f}", f"{its['p99'] / mine['p99']:.1f}" if mine and its else ""]


def _remarks(rows: Sequence[Row]) -> list[str]:
    remarks = []
    for row in rows:
        name = f"{row.peer}, {row.what}, {row.durability}"
        if row.failures:
            remarks.append(f"- **{name}: {', '.join(f'{what}: {count}' for what, count in row.failures.items())}**")
        if row.again:
            remarks.append(f"- {name}: {row.again} callbacks came more than once")
    return ["", *remarks] if remarks else []


def _footprints(footprints: Sequence[dict[str, Any]]) -> list[str]:
    head = ["system", "durability", "ready after s", "memory MB", "of which", "after all calls MB", "of which"]
    lines = [line(head), line(["---", "---", "--:", "--:", "---", "--:", "---"])]
    for one in footprints:
        cells = [one["peer"], one["durability"], f"{one['ready_s']:.2f}"]
        lines.append(line(cells + _sizes(one["memory_mb"]) + _sizes(one.get("memory_after_mb", {}))))
    return lines


def _sizes(memory: dict[str, float]) -> list[str]:
    parts = ", ".join(f"{part} {size:.0f}" for part, size in memory.items())
    return [f"{sum(memory.values()):.0f}" if memory else "", parts]


def line(cells: Sequence[str]) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"


def one_line(row: Row) -> str:
    """A row for the progress on standard error."""
    times = row.latency_ms
    latency = f"p50 {times['p50']:.2f} p99 {times['p99']:.2f} ms" if times else ""
    parts = " ".join(f"{part} {us:.0f}" for part, us in row.cpu_us.items())
    trouble = f"  FAILED: {row.failures}" if row.failures else ""
    return (
        f"{row.scenario:9}{row.what:27}{row.durability:5}{row.peer:11}{row.per_second:9,.0f}/s  {latency:26}  "
        f"µs: {parts}  elsewhere {row.elsewhere:.0%}{trouble}"
    )


def write(folder: Path, name: str, text: str, content: dict[str, Any], *, latest: str) -> Path:
    """Write the report under `name`, and as the newest one under `latest` if that is given; the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.md"
    for target in (path, folder / f"{latest}.md") if latest else (path,):
        target.write_text(text, encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
