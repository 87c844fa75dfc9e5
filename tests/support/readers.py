"""A command whose input is read by what it starts: who takes the end of a pipe for the end of a body says so here.

The script's reader writes one line when it sees the end of its input: how many bytes it was. In `pipeline` the body
goes through another program first.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

SIZE = 700_000
# More than a pipe holds, so that whoever writes into one waits for its reader.

READER = """
import os, sys, time
open(sys.argv[1] + ".begun", "a").write("x")
size = 0
while piece := os.read(0, 16384):
    size += len(piece)
    time.sleep(0.002)
with open(sys.argv[1], "a") as file:
    file.write(f"{size}\\n")
print(size, end="")
"""
SCRIPTS = {"reader": "{reader}\n", "pipeline": "cat | {reader}\n"}


def script(folder: Path, kind: str) -> Path:
    """A shell script that starts a reader; what that sees is in `sizes` of the same folder."""
    reader = folder / "reader.py"
    reader.write_text(READER)
    path = folder / f"{kind}.sh"
    words = shlex.join([sys.executable, "-S", "-E", str(reader), str(folder / "sizes")])
    path.write_text("#!/bin/sh\n" + SCRIPTS[kind].format(reader=words) + "exit $?\n")
    path.chmod(0o755)
    return path


def begun(folder: Path) -> int:
    """How many readers have begun."""
    path = folder / "sizes.begun"
    return len(path.read_text()) if path.exists() else 0


def sizes(folder: Path) -> list[int]:
    """What the readers that came to an end have seen."""
    path = folder / "sizes"
    return list(map(int, path.read_text().split())) if path.exists() else []
