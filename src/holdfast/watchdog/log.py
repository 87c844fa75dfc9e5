"""The watchdog's own log lines: events with fields on standard error, among what the function writes.

The other parts use structlog; a process per replica does without its 10 MB and 150 ms.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TextIO

from holdfast.settings import LogSettings

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class EventLog:
    """Writes one line per event, safe to call from any thread."""

    def __init__(self, settings: LogSettings, stream: TextIO | None = None) -> None:
        self._json = settings.encoding == "json"
        self._least = _LEVELS[settings.level]
        self._stream = stream if stream is not None else sys.stderr

    def info(self, event: str, **fields: object) -> None:
        """Something happened as it should."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something needs attention, if it goes on."""
        self._write("warning", event, fields)

    def error(self, event: str, *, trace: str = "", **fields: object) -> None:
        """Something failed; `trace` is a traceback that follows the line."""
        self._write("error", event, fields, trace)

    def output(self, text: str) -> None:
        """A line of the function's own, as it is."""
        self._put(text + "\n")

    def _write(self, level: str, event: str, fields: dict[str, object], trace: str = "") -> None:
        if _LEVELS[level] < self._least:
            return
        fields = {name: value for name, value in fields.items() if value not in (None, "")}
        if self._json:
            import json  # noqa: PLC0415 - few functions log as JSON

            time = datetime.now(UTC).isoformat()
            record = {"timestamp": time, "level": level, "event": event, "part": "watchdog", **fields}
            if trace:
                record["exception"] = trace
            self._put(json.dumps(record, default=str) + "\n")
            return
        pairs = "".join(f" {name}={_shown(value)}" for name, value in fields.items())
        self._put(f"[{level}] {event}{pairs}\n{trace}")

    def _put(self, text: str) -> None:
        # One write, so that lines of several threads do not mix.
        self._stream.write(text)
        self._stream.flush()


def _shown(value: object) -> str:
    """Quoted when it could be mistaken for something else: a value from outside must not forge fields or lines."""
    text = str(value)
    return text if text.isprintable() and " " not in text and "=" not in text else repr(text)
