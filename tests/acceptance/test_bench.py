from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = ["--calls", "200", "--functions", "2", "--connections", "20", "--slow", "5", "--nap", "0.2", "--seconds", "0.2"]
TITLES = (
    "Waiting calls: speed",
    "Functions: deployed",
    "Open connections: `POST /async-function/echo`",
    "Slow calls at once on one worker, with callback",
)


def test_the_scale_bench_measures_each_of_its_scenarios_in_a_small_size(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "bench.scale", *SMALL, "--out", str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    (report,) = tmp_path.glob("scale-*-part.json")
    tables = json.loads(report.read_text())["tables"]
    assert {table["title"] for table in tables} >= set(TITLES)
    assert all(table["rows"] and not table["failures"] for table in tables)
    assert report.with_suffix(".md").read_text() == done.stdout.removesuffix("\n")
