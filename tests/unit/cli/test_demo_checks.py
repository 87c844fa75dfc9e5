"""The demo notices whatever is not as documented."""

from dataclasses import replace
from typing import Any

import pyfiglet
import pytest

from holdfast.demo import Message, check

SENT = 1_700_000_000_000_000_000
ANSWERED = SENT + 3_000_000
START = str(SENT + 1_000_000)
ACCEPTED = Message(b"", "HTTP/1.1 202 Accepted", {"x-call-id": "abc", "x-start-time": START}, b"")
CALLBACK = Message(
    b"",
    "POST / HTTP/1.1",
    {"x-call-id": "abc", "x-start-time": START, "x-function-status": "200", "x-duration-seconds": "0.002885"},
    pyfiglet.figlet_format("Hi").encode(),
)


def wrong(accepted: Message, callback: Message) -> list[str]:
    checks = check(accepted, callback, sent_at_ns=SENT, answered_at_ns=ANSWERED)
    return [one.what for one in checks if not one.passed]


def test_a_call_as_documented_passes_every_check() -> None:
    assert wrong(ACCEPTED, CALLBACK) == []


@pytest.mark.parametrize(
    ("changed", "noticed"),
    [
        ({"first_line": "HTTP/1.1 200 OK"}, "202"),
        ({"body": b"x"}, "empty body"),
        ({"headers": {"x-start-time": START}}, "call id"),
        ({"headers": {"x-call-id": "abc", "x-start-time": str(SENT - 10**9)}}, "start time"),
        ({"headers": {"x-call-id": "abc"}}, "start time"),
    ],
)
def test_a_wrong_answer_is_noticed(changed: dict[str, Any], noticed: str) -> None:
    assert any(noticed in what for what in wrong(replace(ACCEPTED, **changed), CALLBACK))


@pytest.mark.parametrize(
    ("header", "value", "noticed"),
    [
        ("x-call-id", "another", "X-Call-Id"),
        ("x-start-time", str(SENT), "X-Start-Time"),
        ("x-function-status", "500", "X-Function-Status"),
        ("x-duration-seconds", "0", "X-Duration-Seconds"),
        ("x-duration-seconds", "nan", "X-Duration-Seconds"),
        ("x-duration-seconds", "soon", "X-Duration-Seconds"),
    ],
)
def test_a_wrong_callback_header_is_noticed(header: str, value: str, noticed: str) -> None:
    callback = replace(CALLBACK, headers={**CALLBACK.headers, header: value})
    assert [what for what in wrong(ACCEPTED, callback) if noticed in what]
    del callback.headers[header]
    assert [what for what in wrong(ACCEPTED, callback) if noticed in what]


def test_a_wrong_banner_is_noticed() -> None:
    assert wrong(ACCEPTED, replace(CALLBACK, body=b"Hi"))
