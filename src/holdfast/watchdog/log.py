"""The watchdog's own log lines: events with fields on standard error, among what the function writes.

The other parts use structlog; a process per replica does without its 10 MB and 150 ms.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from datetime import UTC, datetime

from holdfast import unexpected
from holdfast.line_writer import LineWriter
from holdfast.settings import LogSettings
from holdfast.unexpected import Telling, Work

STDOUT, STDERR = 1, 2
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class EventLog:
    """Writes one line per event, safe to call from any thread. A line that cannot be written is dropped and counted."""

    def __init__(self, settings: LogSettings, descriptor: int = STDERR) -> None:
        self._json = settings.encoding == "json"
        self._least = _LEVELS[settings.level]
        self._lines = LineWriter(descriptor, on_back=self._say_missing)

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

    def drain(self) -> None:
        """Wait a moment for the last lines: before a process ends that does not end by itself."""
        self._lines.drain()

    def take_over(self) -> None:
        """Have what the function prints, and what nobody expected, end up here too, whatever becomes of the reader."""
        unexpected.tell(Telling(lambda _: None, self._unexpected))
        for name, descriptor in (("stdout", STDOUT), ("stderr", STDERR)):
            raw = io.BufferedWriter(_NeverFails(descriptor, self._lines))
            # What a handler prints is logged when it is printed.
            setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True))

    def _unexpected(self, work: Work, error: BaseException, times: int, about: dict[str, object]) -> None:
        fields = {"loop": work.value, **about}
        if times:
            self._write("error", "unexpected error again, going on", {**fields, "times": times, "error": repr(error)})
        else:
            self._write("error", "unexpected error, going on", fields, "".join(traceback.format_exception(error)))

    def _say_missing(self, missing: int) -> None:
        self.warning("lines of the log are missing before this one", lines=missing)

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
        self._lines.write(text)


class _NeverFails(io.RawIOBase):
    """What the function prints itself, written at once: the part that cannot be is dropped and counted as a line.

    At once, and not by the writer's thread: a function that prints faster than its output is read has to wait.
    """

    def __init__(self, descriptor: int, lines: LineWriter) -> None:
        self._descriptor = descriptor
        self._lines = lines

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type] # whatever has the buffer interface
        try:
            return os.write(self._descriptor, view)
        except OSError:
            self._lines.missed()
            return view.nbytes


def _shown(value: object) -> str:
    """Quoted when it could be mistaken for something else: a value from outside must not forge fields or lines."""
    text = str(value)
    return text if text.isprintable() and " " not in text and "=" not in text else repr(text)
