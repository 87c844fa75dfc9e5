from __future__ import annotations

import pytest

from holdfast.function import FunctionRef
from holdfast.http1.message import read_request
from holdfast.http1.origin import Origin
from holdfast.invocation import CallId, Invocation
from holdfast.worker.callback import callback_request, destination
from holdfast.worker.outcome import Outcome, no_answer
from holdfast.worker.signature import delivery_headers

CALL = Invocation(
    CallId("0cf3-11"),
    "0cf3-11",
    FunctionRef("figlet", "dev"),
    1_543_915_495_384_346_700,
    "http://127.0.0.1:8888/done?x=1",
    b"",
)

KEYS = (b"k" * 32,)


def sent(outcome: Outcome) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    to = destination("http://127.0.0.1:8888/done?x=1", "http://gateway:8080")
    delivery = delivery_headers(KEYS, CALL.message_id, 1_700_000_000, outcome.body)
    request = read_request(callback_request(CALL, outcome, to, 9, delivery=delivery))
    assert request.method == b"POST"
    return request.target, request.headers, request.body


def test_a_callback_says_all_that_openfaas_says() -> None:
    target, headers, body = sent(
        Outcome(201, [(b"Content-Type", b"text/x"), (b"X-Own", b"1")], b"ba\x00nner", 0.002885, 1)
    )
    assert target == b"/done?x=1"
    assert body == b"ba\x00nner"
    told = dict(headers)
    assert told[b"Host"] == b"127.0.0.1:8888"
    assert told[b"X-Call-Id"] == b"0cf3-11"
    assert told[b"X-Duration-Seconds"] == b"0.002885"
    assert told[b"X-Start-Time"] == b"1543915495384346700"
    assert told[b"X-Function-Status"] == b"201"
    assert told[b"X-Function-Name"] == b"figlet"
    assert told[b"User-Agent"].startswith(b"queue-worker/")
    assert told[b"Content-Type"] == b"text/x"
    assert told[b"X-Own"] == b"1"
    assert (told[b"X-Retry"], told[b"X-Retry-Max"]) == (b"0", b"9")
    assert told[b"Content-Length"] == b"7"


def test_a_function_cannot_forge_what_we_say_nor_frame_the_message() -> None:
    forged = [
        (b"x-call-id", b"other"),
        (b"X-FUNCTION-STATUS", b"200"),
        (b"X-Retry", b"9"),
        (b"User-Agent", b"me"),
        (b"X-Holdfast-Depth", b"-5"),
        (b"Webhook-Id", b"other"),
        (b"WEBHOOK-TIMESTAMP", b"1"),
        (b"webhook-signature", b"v1,forged"),
        (b"Content-Length", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"close, X-Private"),
        (b"X-Private", b"1"),
        (b"Set-Cookie", b"a"),
        (b"Set-Cookie", b"b"),
    ]
    _, headers, _ = sent(Outcome(500, forged, b"", 1.0, 1))
    names = [name.lower() for name, _ in headers]
    assert names.count(b"x-call-id") == names.count(b"x-function-status") == names.count(b"content-length") == 1
    assert dict(headers)[b"X-Function-Status"] == b"500"
    assert [value for name, value in headers if name == b"Set-Cookie"] == [b"a", b"b"]
    assert not {b"transfer-encoding", b"connection", b"x-private"} & set(names)
    assert dict(headers)[b"X-Retry"] == b"0"
    assert [value for name, value in headers if name.lower() == b"x-holdfast-depth"] == [b"0"]
    assert [value for name, value in headers if name.lower() == b"webhook-id"] == [b"0cf3-11"]
    assert names.count(b"webhook-timestamp") == names.count(b"webhook-signature") == 1
    assert b"v1,forged" not in dict(headers)[b"webhook-signature"]


def test_without_an_answer_the_body_says_why() -> None:
    _, headers, body = sent(no_answer(504, "figlet did not answer within 1 s", 1.0, 1))
    assert dict(headers)[b"X-Function-Status"] == b"504"
    assert body == b"figlet did not answer within 1 s\n"


@pytest.mark.parametrize(
    ("url", "origin", "target", "own"),
    [
        ("http://example.com", ("example.com", 80, False), b"/", False),
        ("https://example.com/a?b=c", ("example.com", 443, True), b"/a?b=c", False),
        ("http://[::1]:9/a", ("::1", 9, False), b"/a", False),
        ("/async-function/next?x", ("gateway", 8080, False), b"/async-function/next?x", True),
        ("http://gateway:8080/function/next", ("gateway", 8080, False), b"/function/next", True),
        ("http://gateway:8080/system/functions", ("gateway", 8080, False), b"/system/functions", False),
        ("http://gateway:8080/function/../system/functions", None, b"/function/../system/functions", False),
        ("http://gateway/function/next", ("gateway", 80, False), b"/function/next", False),
        ("https://gateway:8080/function/next", ("gateway", 8080, True), b"/function/next", False),
    ],
)
def test_a_callback_goes_where_its_url_says(
    url: str, origin: tuple[str, int, bool] | None, target: bytes, *, own: bool
) -> None:
    to = destination(url, "http://gateway:8080")
    assert (to.origin, to.target, to.own) == (Origin(*(origin or ("gateway", 8080, False))), target, own)
