from __future__ import annotations

import pytest

from holdfast.http1.framing import BodyFraming, Refusal, answer_framing, framing_line, refusal_message


@pytest.mark.parametrize(
    ("request_line", "status", "length", "framing", "line"),
    [
        ("GET 1.1", 200, 5, BodyFraming.LENGTH, b"Content-Length: 5\r\n"),
        ("GET 1.1", 200, 0, BodyFraming.LENGTH, b"Content-Length: 0\r\n"),
        ("GET 1.1", 200, None, BodyFraming.CHUNKED, b"Transfer-Encoding: chunked\r\n"),
        ("GET 1.0", 200, None, BodyFraming.UNTIL_CLOSE, b""),
        ("GET 1.0", 200, 5, BodyFraming.LENGTH, b"Content-Length: 5\r\n"),
        ("HEAD 1.1", 200, 5, BodyFraming.NONE, b"Content-Length: 5\r\n"),
        ("HEAD 1.0", 200, None, BodyFraming.NONE, b""),
        ("GET 1.1", 204, None, BodyFraming.NONE, b""),
        ("GET 1.1", 204, 5, BodyFraming.NONE, b""),
        ("GET 1.1", 304, 5, BodyFraming.NONE, b"Content-Length: 5\r\n"),
        ("GET 1.1", 304, None, BodyFraming.NONE, b""),
    ],
)
def test_the_end_of_an_answer_is_told_as_the_client_can_read_it(
    request_line: str, status: int, length: int | None, framing: BodyFraming, line: bytes
) -> None:
    method, version = request_line.split()
    assert answer_framing(method.encode(), version, status, length) is framing
    assert framing_line(framing, status, length) == line


def test_a_refusal_says_one_sentence_and_closes() -> None:
    message = refusal_message(Refusal(400, "No."), b"Date: x\r\n")
    assert message == (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n"
        b"Date: x\r\nConnection: close\r\n\r\nNo.\n"
    )
    assert refusal_message(Refusal(400, "No."), b"", with_body=False).endswith(b"close\r\n\r\n")
