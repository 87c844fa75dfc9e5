"""Rows in, tables out: Markdown for people, JSON for whoever compares runs. No measuring here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.scenarios import Row

COLUMNS = {"gateway µs": ("gateway",), "worker µs": ("worker",), "server µs": ("nats-server", "redis-server")}
"""The parts that have a column of their own."""
SYSTEM = (*(part for parts in COLUMNS.values() for part in parts), "provider", "supervisor")
"""Parts whose cost is the system's own. Functions and load are nobody's merit."""

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
- *all µs* is the sum of gateway, worker, server (nats-server, or Celery's redis-server) and supervising processes per
  request; the function's and the load's cost stand apart.
- *rate*, *CPU* and *p99* in a peer's row compare Holdfast with it, by Holdfast's row of the same measurement and run:
  Holdfast's throughput over the peer's, the peer's *all µs* and p99 over Holdfast's; above 1 Holdfast is the better
  one. All systems are up during the whole run and take turns row by row; the others idle.
- The naive peer: Starlette on uvicorn (uvloop, httptools, no access log), nats-py publish with confirmation and
  `Nats-Msg-Id`, a nats-py pull consumer on uvloop (64 calls at once, fetches when 16 slots are free), aiohttp without
  connection limit; the same nats-server binary and configuration, one work-queue stream in files; the same functions
  behind the same watchdog. It has no limits, retries, heartbeats or streaming.
- Celery: FastAPI on the same uvicorn, `apply_async` in the event loop (faster here than in threads), a Redis broker
  with an append-only file; one worker with a pool of 64 threads, acknowledging late, results ignored, prefetch
  multiplier 4, rate limits, gossip, mingle, heartbeat and the printed arguments off, urllib3 with 64 connections kept.
- taskiq: FastAPI on the same uvicorn, `kiq` with taskiq-nats's pull broker, which waits for JetStream's confirmation;
  the same nats-server and kind of stream; one worker process on uvloop with 64 tasks at once, fetches of 64,
  acknowledging when executed, no validation of arguments, aiohttp without connection limit.
- Both task queues run the same functions behind the same watchdog. They take asynchronous calls only: no row in
  *Synchronous*.
- All peers reach the functions by TCP, Holdfast by the Unix sockets that its provider gives them.
- *elsewhere* is the share of the machine's CPU time that went to neither the measured system nor the load: other
  programs, interrupts, time taken by the host. Where it is more than a few percent, only ratios and µs say something.
- Durability `os`: confirmed is in the kernel's hands; `disk`: confirmed is on the disk. For nats-server `sync_interval`
  is its default or `always`, for redis-server `appendfsync` is `everysec` or `always`; Redis makes no snapshots.
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
    redis = f"redis-server {facts['redis_server']}; " if facts["redis_server"] else ""
    return (
        f"{facts['cpu']}, {facts['cores']} cores shared by servers and load, {facts['memory_gb']} GB; "
        f"{facts['kernel']}; {facts['python']}; nats-server {facts['nats_server']}; {redis}{libraries}. "
        f"Data on {facts['data_filesystem']}, one fsync {facts['fsync_us']} µs. "
        f"Load average before: {facts['load_average_before']}."
    )


def _table(rows: Sequence[Row]) -> list[str]:
    words = ["", "durability", "system"]
    numbers = [
        "per s",
        "p50 ms",
        "p99 ms",
        *COLUMNS,
        "all µs",
        "function µs",
        "load µs",
    ]
    ratios = ["rate", "CPU", "p99"]
    lines = [line([*words, *numbers, "elsewhere", *ratios]), line(["---"] * 3 + ["--:"] * 13)]
    for row in rows:
        times, cpu = row.latency_ms, row.cpu_us
        costs = [sum(cpu.get(part, 0.0) for part in parts) for parts in COLUMNS.values()]
        costs += [all_us(row), cpu.get("function", 0), cpu.get("load", 0)]
        cells = [row.what, row.durability, row.peer, f"{row.per_second:,.0f}"]
        cells += [f"{times['p50']:.2f}", f"{times['p99']:.2f}"] if times else ["", ""]
        cells += [*(f"{cost:.0f}" for cost in costs), f"{row.elsewhere:.0%}"]
        lines.append(line(cells + _ratios(row, rows)))
    return lines + _remarks(rows)


def all_us(row: Row) -> float:
    """The system's own CPU µs per request."""
    return sum(row.cpu_us.get(part, 0.0) for part in SYSTEM)


def holdfast_row(row: Row, rows: Sequence[Row]) -> Row | None:
    """Holdfast's row of the same measurement; None for its own, and when it was not measured."""
    key = (row.scenario, row.what, row.durability)
    same = (other for other in rows if (other.scenario, other.what, other.durability) == key)
    return next((other for other in same if other.peer == "Holdfast" and other is not row), None)


def _ratios(row: Row, rows: Sequence[Row]) -> list[str]:
    """How Holdfast compares with this peer."""
    ours = holdfast_row(row, rows)
    if ours is None:
        return ["", "", ""]
    # Calls one at a time with a rest between have a rate that says nothing.
    rate = "" if row.scenario == "idle" else f"{ours.per_second / row.per_second:.1f}"
    mine, its = ours.latency_ms, row.latency_ms
    return [rate, f"{all_us(row) / all_us(ours):.1f}", f"{its['p99'] / mine['p99']:.1f}" if mine and its else ""]


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
