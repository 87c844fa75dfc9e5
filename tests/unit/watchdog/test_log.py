import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.settings import LogSettings
from holdfast.watchdog.log import EventLog


class Written:
    """What a log has written to a file."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._path = folder / "log"
        self.log = EventLog(LogSettings.from_environment(environ), os.open(self._path, os.O_WRONLY | os.O_CREAT))

    def getvalue(self) -> str:
        self.log.drain()
        return self._path.read_text()


Lines = Callable[..., tuple[EventLog, Written]]


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    def made(**environ: str) -> tuple[EventLog, Written]:
        written = Written(tmp_path, environ)
        return written.log, written

    return made


def test_an_event_is_one_line_with_its_fields(lines: Lines) -> None:
    log, stream = lines()
    log.error("function failed", call_id="abc", exit_code=3, nothing=None, trace="Traceback\n")
    assert stream.getvalue() == "[error] function failed call_id=abc exit_code=3\nTraceback\n"


@pytest.mark.parametrize("value", ["a b", "x\n[error] forged", "a=b", "\x1b[31m"])
def test_a_value_from_outside_cannot_forge_fields_or_lines(lines: Lines, value: str) -> None:
    log, stream = lines()
    log.info("caller left", call_id=value)
    assert stream.getvalue() == f"[info] caller left call_id={value!r}\n"
    assert stream.getvalue().count("\n") == 1


def test_events_can_be_json(lines: Lines) -> None:
    log, stream = lines(log_encoding="json")
    log.warning("caller left", call_id="a\nb")
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record.pop("timestamp")
    assert record == {"level": "warning", "event": "caller left", "part": "watchdog", "call_id": "a\nb"}


def test_events_below_the_level_are_left_out_but_output_never_is(lines: Lines) -> None:
    log, stream = lines(log_level="error")
    log.info("x")
    log.warning("x")
    log.output("from the function")
    assert stream.getvalue() == "from the function\n"
