"""`python -m bench`: start the systems, measure, write the report. Non-zero only when something does not work."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

from bench import report, systems
from bench.child import BenchError, told
from bench.command import RESULTS, data_folder, report_name, run_to_the_end, say, some_of
from bench.machine import machine
from bench.meter import ProcessGone, memory_mb
from bench.peer import Durability, Peer
from bench.receiver import receiver
from bench.scenarios import NAMES, WITHOUT_FSYNC_ONLY, Name, Plan, Row, Scenarios
from holdfast.errors import HoldfastError

DURABILITIES: tuple[Durability, ...] = get_args(Durability)


class Bench:
    """One run of the bench: what it was asked for and what it has measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.rows: list[Row] = []
        self.footprints: list[dict[str, Any]] = []
        self._plan = Plan(
            seconds=options.seconds,
            warmup_s=min(0.7, options.seconds / 4),
            most_calls=options.calls,
            accept_connections=options.connections,
        )

    @property
    def whole(self) -> bool:
        """Whether all scenarios of all systems were asked for, at full length."""
        asked = self._options
        everything = (list(NAMES), list(systems.NAMES), list(DURABILITIES))
        return (asked.only, asked.peers, asked.durability) == everything and not asked.quick

    async def run(self, folder: Path) -> None:
        """Measure everything, one durability after the other."""
        for durability in self._options.durability:
            names = [name for name in self._options.only if durability == "os" or name not in WITHOUT_FSYNC_ONLY]
            if names:
                await self._measure(durability, names, folder / durability)

    async def _measure(self, durability: Durability, names: list[Name], folder: Path) -> None:
        async with contextlib.AsyncExitStack() as stack:
            peers = []
            for name in self._options.peers:
                (folder / name).mkdir(parents=True)
                say(f"starting {name} with durability {durability} …")
                peers.append(await stack.enter_async_context(systems.start(name, durability, folder / name)))
            arrivals = await stack.enter_async_context(receiver())
            footprints = [_footprint(peer) for peer in peers]
            self.footprints += footprints
            scenarios = [Scenarios(peer, self._plan, arrivals) for peer in peers]
            for name in names:
                # Turn by turn, so that what else the machine does meets both alike.
                rows = [scenario.measure(name) for scenario in scenarios]
                while await self._one_turn(rows):
                    pass
            for peer, footprint in zip(peers, footprints, strict=True):
                footprint["memory_after_mb"] = _memory(peer)

    async def _one_turn(self, rows: list[AsyncIterator[Row]]) -> bool:
        """The next row of each peer; False when there is none."""
        found = False
        for upcoming in rows:
            row = await anext(upcoming, None)
            if row is not None:
                found = True
                self.rows.append(row)
                say(report.one_line(row))
        return found


def _footprint(peer: Peer) -> dict[str, Any]:
    return {
        "peer": peer.name,
        "durability": peer.durability,
        "ready_s": round(peer.ready_s, 2),
        "memory_mb": _memory(peer),
    }


def _memory(peer: Peer) -> dict[str, float]:
    return {part: round(size, 1) for part, size in memory_mb(peer.parts).items()}


def _options(arguments: list[str]) -> argparse.Namespace:
    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(number) for number in text.split(","))

    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Holdfast beside its peers.")
    parser.add_argument("--only", type=some_of(NAMES), default=list(NAMES), help=f"some of {','.join(NAMES)}")
    parser.add_argument(
        "--peers", type=some_of(systems.NAMES), default=list(systems.NAMES), help=f"some of {','.join(systems.NAMES)}"
    )
    parser.add_argument(
        "--durability", type=some_of(DURABILITIES), default=list(DURABILITIES), help=f"some of {','.join(DURABILITIES)}"
    )
    parser.add_argument("--connections", type=numbers, default=(1, 64, 256), help="for accept: 1,64,256")
    parser.add_argument("--seconds", type=float, help="length of each measurement (3)")
    parser.add_argument("--calls", type=int, help="most calls that wait in run and callback (20000)")
    parser.add_argument("--quick", action="store_true", help="one second per measurement, at most 3000 calls")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    options = parser.parse_args(arguments)
    options.seconds = options.seconds or (1.0 if options.quick else 3.0)
    options.calls = options.calls or (3_000 if options.quick else 20_000)
    return options


async def _run(options: argparse.Namespace, command: str) -> int:
    try:
        systems.need(options.peers)
    except BenchError as error:
        say(told(error))
        return 1
    bench = Bench(options)
    problem = ""
    with data_folder() as folder:
        facts = machine(folder)
        try:
            await bench.run(folder)
        except (BenchError, ProcessGone, HoldfastError, OSError, ExceptionGroup) as error:
            problem = told(error)
            say(f"the bench could not go on: {problem}")
    if not bench.rows:
        return 1
    text = report.markdown(bench.rows, facts, bench.footprints, command, problem)
    content = {
        "command": command,
        "machine": facts,
        "footprints": bench.footprints,
        "rows": [row.as_json() for row in bench.rows],
        "problem": problem,
    }
    whole = bench.whole and not problem
    name = report_name(facts) + ("" if whole else "-part")
    path = report.write(options.out, name, text, content, latest="latest" if whole else "")
    print(text)
    say(f"written to {path}")
    failed = [row for row in bench.rows if row.failures]
    for row in failed:
        say(f"not every request was answered as expected: {report.one_line(row)}")
    return 1 if problem or failed else 0


def main() -> int:
    arguments = sys.argv[1:]
    command = " ".join(["python -m bench", *arguments])
    return run_to_the_end(_run(_options(arguments), command))


if __name__ == "__main__":
    sys.exit(main())
