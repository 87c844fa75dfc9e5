"""`python -m holdfast.watchdog`: one watchdog with its settings from the environment."""

from __future__ import annotations

import sys

from holdfast.errors import SettingError
from holdfast.settings import LogSettings, WatchdogSettings
from holdfast.standard_streams import open_missing
from holdfast.watchdog.app import run


def main() -> int:
    """Run until SIGTERM; the exit code."""
    open_missing()
    try:
        settings, logs = WatchdogSettings.from_environment(), LogSettings.from_environment()
    except SettingError as error:
        sys.stderr.write(f"watchdog: {error}\n")
        return 2
    return run(settings, logs)


if __name__ == "__main__":
    sys.exit(main())
