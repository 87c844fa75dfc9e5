"""Run the scenarios and print what the ledger says. Exit code 1 when a call is lost, or run again without a reason."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.faults.row import Plan, Row
from tests.faults.scenarios import SCENARIOS

COLUMNS = ("accepted", "ended", "runs", "run again", "callbacks", "told again", "lost", "wrong")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def line(row: Row) -> str:
    drawn = row.balance
    lost = len(drawn.lost) + len(drawn.unfinished) + len(drawn.untold)
    wrong = len(drawn.run_cancelled) + len(drawn.strangers) + len(drawn.unexplained)
    figures = (
        drawn.accepted,
        drawn.ended,
        drawn.runs,
        len(drawn.explained),
        drawn.confirmed_callbacks,
        drawn.told_again,
        lost,
        wrong,
    )
    return f"| {row.what} | " + " | ".join(map(str, figures)) + f" | {row.note} |"


async def run(names: list[str], seed: int, calls: int) -> int:
    say(f"seed {seed}, {calls} calls; a run with the same seed sends the same calls")
    bad = 0
    for name in names:
        scenario = SCENARIOS[name]
        say(f"\n### {name}\n\n{(scenario.__doc__ or '').strip()}\n")
        say(f"| what | {' | '.join(COLUMNS)} | |\n|---|{'---:|' * len(COLUMNS)}---|")
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="holdfast-faults-", ignore_cleanup_errors=True) as folder:
            try:
                async for row in scenario(Plan(Path(folder), seed, calls)):
                    say(line(row))
                    if not row.good:
                        bad += 1
                        say(f"\nNOT GOOD: {row.what}: {row.balance}\n")
            except (AssertionError, TimeoutError, ExceptionGroup, OSError) as error:
                bad += 1
                traceback.print_exc()
                say(f"\nNOT GOOD: {name} ended with {type(error).__name__}: {error}\n")
        say(f"\n{time.monotonic() - began:.0f} s")
    say("\nnothing is lost" if not bad else f"\n{bad} lines are not good")
    return 1 if bad else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", help=f"some of {','.join(SCENARIOS)}")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--calls", type=int, default=20_000, help="calls of the largest scenario (20000)")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"{', '.join(unknown)} is not among {', '.join(SCENARIOS)}")
    return asyncio.run(run(names, options.seed, options.calls))


if __name__ == "__main__":
    sys.exit(main())
