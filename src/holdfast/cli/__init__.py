"""The command line: `holdfast`, and the same program as `faas`.

Each command says in its module what it sends and prints; what a failure means to the user is decided in problems.py.
A command's module is loaded only when that command runs, so that `--help` and completion answer at once.
"""

from __future__ import annotations

from holdfast.cli.program import main

__all__ = ["main"]
