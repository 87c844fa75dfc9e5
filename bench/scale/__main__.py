"""`python -m bench.scale`: measure and write the report. Non-zero only when something does not work."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

from bench import report
from bench.child import BenchError, told
from bench.command import RESULTS, data_folder, report_name, run_to_the_end, say, some_of
from bench.machine import machine
from bench.meter import ProcessGone
from bench.scale import connections, functions, slow, waiting
from bench.scale.plan import Plan, Table
from holdfast.errors import HoldfastError

SCENARIOS: dict[str, Callable[[Plan, Path], AsyncIterator[Table]]] = {
    "waiting": waiting.measure,
    "functions": functions.measure,
    "connections": connections.measure,
    "slow": slow.measure,
}

EXAMPLES = """\
examples:
  make scale                                                everything, in its full size
  make scale ARGS="--only waiting --calls 100000"           a tenth of the waiting calls
  make scale ARGS="--only connections,slow --seconds 10"    two scenarios, measured for longer
  make scale ARGS="--calls 5000 --functions 10 --connections 200 --slow 50 --nap 1 --seconds 1"
"""


def _options(arguments: list[str]) -> argparse.Namespace:
    names, plan = tuple(SCENARIOS), Plan()
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale",
        description="Measure Holdfast with a lot of everything. Tables go to standard output and to bench/results/.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", type=some_of(names), default=list(names), help=f"some of {','.join(names)}")
    parser.add_argument("--calls", type=int, default=plan.calls, help=f"calls that wait ({plan.calls})")
    parser.add_argument("--functions", type=int, default=plan.functions, help=f"functions ({plan.functions})")
    parser.add_argument("--connections", type=int, default=plan.connections, help=f"connections ({plan.connections})")
    parser.add_argument("--slow", type=int, default=plan.slow, help=f"slow calls at once ({plan.slow})")
    parser.add_argument(
        "--nap", type=float, default=plan.nap_s, dest="nap_s", help=f"seconds that a slow call takes ({plan.nap_s:g})"
    )
    parser.add_argument("--seconds", type=float, default=plan.seconds, help=f"of each measurement ({plan.seconds:g})")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    return parser.parse_args(arguments)


async def _run(options: argparse.Namespace, command: str) -> int:
    plan = Plan(**{name: getattr(options, name) for name in asdict(Plan())})
    tables: list[Table] = []
    problem = ""
    with data_folder() as folder:
        facts = machine(folder)
        try:
            for name in options.only:
                say(f"{name} …")
                (folder / name).mkdir()
                async for table in SCENARIOS[name](plan, folder / name):
                    say(f"done: {table.title}")
                    tables.append(table)
        except (BenchError, ProcessGone, HoldfastError, OSError, ExceptionGroup) as error:
            problem = told(error)
            say(f"the bench could not go on: {problem}")
    if not tables:
        return 1
    text = report.whole("Scale", command, facts, problem, [line for table in tables for line in table.markdown()])
    content = {
        "command": command,
        "machine": facts,
        "plan": asdict(plan),
        "tables": [asdict(table) for table in tables],
        "problem": problem,
    }
    full = plan == Plan() and not problem
    whole = full and options.only == list(SCENARIOS)
    parts = [] if whole else [*options.only, *([] if full else ["part"])]
    name = "-".join(["scale", report_name(facts), *parts])
    path = report.write(options.out, name, text, content, latest="scale-latest" if whole else "")
    print(text)
    say(f"written to {path}")
    failures = [table.failures for table in tables if table.failures]
    for failure in failures:
        say(f"not every request was answered as expected: {json.dumps(failure)}")
    return 1 if problem or failures else 0


def main() -> int:
    arguments = sys.argv[1:]
    return run_to_the_end(_run(_options(arguments), " ".join(["python -m bench.scale", *arguments])))


if __name__ == "__main__":
    sys.exit(main())
