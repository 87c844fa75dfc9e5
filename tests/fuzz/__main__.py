"""Fuzz the targets one after another: `make fuzz`, or `make fuzz ARGS="--seconds 600 requests answers"`.

New inputs that reach new code are kept in tests/fuzz/corpus only with --keep, the smallest set of them. An input that
breaks a promise is written to tests/fuzz/found; once the mistake is mended it belongs into the corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

FOLDER = Path(__file__).parent
CORPUS = FOLDER / "corpus"
FOUND = FOLDER / "found"
LONGEST_INPUT = 4000
SLOWEST_S = 10  # an input that takes longer is a finding: a hang
MOST_MEMORY_MB = 1024
# What libFuzzer and atheris say of themselves on each start.
NOISE = ("INFO: ", "WARNING: Failed to find function", "MERGE-", "###### ")


def main() -> int:
    """The exit code: 0 when no promise was broken."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=30, help="for each target (30)")
    parser.add_argument("--keep", action="store_true", help="keep the new inputs that reach new code")
    asked = parser.parse_args()
    unknown = set(asked.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    broken = [name for name in asked.targets or TARGETS if not _fuzz(name, asked.seconds, keep=asked.keep)]
    _say(f"broken: {', '.join(broken)}; the inputs are in {FOUND}" if broken else "no promise was broken")
    return 1 if broken else 0


def _fuzz(name: str, seconds: int, *, keep: bool) -> bool:
    kept = CORPUS / name
    kept.mkdir(parents=True, exist_ok=True)
    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder)
        for data in seeds(name):
            (new / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        _say(f"--- {name}, {seconds} s")
        ended = _libfuzzer(
            name,
            *(f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", f"-timeout={SLOWEST_S}"),
            *(f"-rss_limit_mb={MOST_MEMORY_MB}", f"-artifact_prefix={FOUND / name}-", "-verbosity=0"),
            *("-print_final_stats=1", str(new), str(kept)),
        )
        if keep:
            _libfuzzer(name, "-merge=1", "-verbosity=0", str(kept), str(new))
    return ended == 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _libfuzzer(name: str, *options: str) -> int:
    command = [sys.executable, "-m", "tests.fuzz.run", name, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as fuzzing:
        assert fuzzing.stderr is not None
        for line in fuzzing.stderr:
            if not line.startswith(NOISE):
                _say(line.rstrip())
    return fuzzing.returncode


if __name__ == "__main__":
    sys.exit(main())
