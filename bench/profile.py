"""Where a part spends its time while a scenario runs: a flame graph by py-spy.

    python -m bench.profile gateway accept [--peer naive] [--seconds 5] [--out gateway.svg]

py-spy is not among the project's libraries: `uv tool install py-spy`, or any other way that puts it on PATH. Reading
another process may need root. Figures of such a run are not worth keeping: the sampling disturbs.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from bench import report, systems
from bench.child import BenchError, told
from bench.meter import ProcessGone
from bench.receiver import receiver
from bench.scenarios import NAMES, Name, Plan, Scenarios
from holdfast.errors import HoldfastError

SAMPLES_PER_SECOND = 500
STOP_S = 20


async def profile(peer_name: str, part: str, scenario: Name, plan: Plan, out: Path) -> None:
    """Run one scenario with py-spy attached to the first process of a part."""
    systems.need([peer_name])
    py_spy = shutil.which("py-spy")
    if py_spy is None:
        raise BenchError("py-spy was not found on PATH: install it with `uv tool install py-spy`")
    with tempfile.TemporaryDirectory(prefix="holdfast-profile-") as folder:
        async with systems.start(peer_name, "os", Path(folder)) as peer, receiver() as arrivals:
            if part not in peer.parts:
                raise BenchError(f"{peer.name} has no part {part}: choose one of {', '.join(peer.parts)}")
            # Without --nonblocking it would halt the process for each sample, and fail on one that is held still.
            argv = [py_spy, "record", "--nonblocking", "--pid", str(peer.parts[part][0]), "--output", str(out)]
            spy = await asyncio.create_subprocess_exec(*argv, "--rate", str(SAMPLES_PER_SECOND))
            try:
                async for row in Scenarios(peer, plan, arrivals).measure(scenario):
                    print(report.one_line(row))
            finally:
                if spy.returncode is None:
                    spy.send_signal(signal.SIGINT)  # its sign to write what it has
                async with asyncio.timeout(STOP_S):
                    code = await spy.wait()
            if code:
                raise BenchError(f"py-spy ended with code {code}: its reason is above; it may need root")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description="Draw a part's flame graph.")
    parser.add_argument("part", help="gateway, worker, function, provider")
    parser.add_argument("scenario", choices=NAMES)
    parser.add_argument("--peer", choices=systems.NAMES, default="holdfast")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path("profile.svg"))
    options = parser.parse_args()
    plan = Plan(seconds=options.seconds, accept_connections=(64,), sync_connections=(64,))
    try:
        asyncio.run(profile(options.peer, options.part, options.scenario, plan, options.out.resolve()))
    except (BenchError, ProcessGone, HoldfastError, OSError) as error:
        print(told(error), file=sys.stderr)
        return 1
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
