from typing import Any

import pytest

from holdfast.watchdog.result import answer_of

TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"
JSON = b"Content-Type: application/json\r\n"
BYTES = b"Content-Type: application/octet-stream\r\n"


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (None, (200, b"", b"")),
        ("", (200, b"", b"")),
        ("café", (200, TEXT, "café".encode())),
        (b"\x00\xff", (200, BYTES, b"\x00\xff")),
        (bytearray(b"x"), (200, BYTES, b"x")),
        ({"a": 1}, (200, JSON, b'{"a": 1}')),
        ({}, (200, JSON, b"{}")),
        ([1, None], (200, JSON, b"[1, null]")),
        (7, (200, JSON, b"7")),
        (False, (200, JSON, b"false")),
        ({"statusCode": 201}, (201, b"", b"")),
        ({"statusCode": "404", "body": "no"}, (404, TEXT, b"no")),
        ({"body": {"a": 1}}, (200, JSON, b'{"a": 1}')),
        ({"body": "x", "isBase64Encoded": False}, (200, TEXT, b"x")),
        ({"headers": {"X-A": "1"}}, (200, b"X-A: 1\r\n", b"")),
        ({"headers": "of a newspaper", "page": 1}, (200, JSON, b'{"headers": "of a newspaper", "page": 1}')),
        ({"body": "x", "headers": {"content-type": "text/html"}}, (200, b"content-type: text/html\r\n", b"x")),
        ({"body": "", "headers": {"N": 1, "L": ["a", "b"]}}, (200, b"N: 1\r\nL: a\r\nL: b\r\n", b"")),
        ({"body": "", "headers": [("A", "1"), ("A", b"2")]}, (200, b"A: 1\r\nA: 2\r\n", b"")),
        ({"body": "", "headers": {"A": "é", "B": "→"}}, (200, b"A: \xe9\r\nB: \xe2\x86\x92\r\n", b"")),
        ({"body": "", "headers": None}, (200, b"", b"")),
    ],
)
def test_what_a_handler_returns_becomes_an_answer(result: Any, answer: tuple[int, bytes, bytes]) -> None:
    assert answer_of(result) == answer


@pytest.mark.parametrize(
    "name", ["Content-Length", "transfer-encoding", "Connection", "Keep-Alive", "Date", "X-Duration-Seconds"]
)
def test_a_handler_does_not_frame_the_answer(name: str) -> None:
    assert answer_of({"body": "x", "headers": {name: "5"}}) == (200, TEXT, b"x")


@pytest.mark.parametrize(
    "result",
    [
        {"statusCode": 99},
        {"statusCode": 101},
        {"statusCode": 600},
        {"statusCode": "many"},
        {"statusCode": None},
        {"body": {1, 2}},
        object(),
        {"body": "", "headers": {"A": "1\r\nB: 2"}},
        {"body": "", "headers": {"A b": "1"}},
        {"body": "", "headers": {"A": "1\0"}},
        {"body": "", "headers": "A: b"},
    ],
)
def test_what_is_not_an_answer_is_an_error(result: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        answer_of(result)
