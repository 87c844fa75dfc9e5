import io
import json

import pytest

from holdfast.settings import LogSettings
from holdfast.watchdog.log import EventLog


def lines(**environ: str) -> tuple[EventLog, io.StringIO]:
    stream = io.StringIO()
    return EventLog(LogSettings.from_environment(environ), stream), stream


def test_an_event_is_one_line_with_its_fields() -> None:
    log, stream = lines()
    log.error("function failed", call_id="abc", exit_code=3, nothing=None, trace="Traceback\n")
    assert stream.getvalue() == "[error] function failed call_id=abc exit_code=3\nTraceback\n"


@pytest.mark.parametrize("value", ["a b", "x\n[error] forged", "a=b", "\x1b[31m"])
def test_a_value_from_outside_cannot_forge_fields_or_lines(value: str) -> None:
    log, stream = lines()
    log.info("caller left", call_id=value)
    assert stream.getvalue() == f"[info] caller left call_id={value!r}\n"
    assert stream.getvalue().count("\n") == 1


def test_events_can_be_json() -> None:
    log, stream = lines(log_encoding="json")
    log.warning("caller left", call_id="a\nb")
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record.pop("timestamp")
    assert record == {"level": "warning", "event": "caller left", "part": "watchdog", "call_id": "a\nb"}


def test_events_below_the_level_are_left_out_but_output_never_is() -> None:
    log, stream = lines(log_level="error")
    log.info("x")
    log.warning("x")
    log.output("from the function")
    assert stream.getvalue() == "from the function\n"
