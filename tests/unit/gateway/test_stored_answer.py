from __future__ import annotations

import pytest

from holdfast.function import FunctionRef
from holdfast.gateway import answers
from holdfast.gateway.stored_answer import answer_headers
from holdfast.headers import RawHeaders
from holdfast.invocation import CallId, Invocation
from holdfast.queue.record import CallRecord, CallStatus, Result

INVOCATION = Invocation(CallId("own"), CallId("own"), FunctionRef("f"), 17, None, b"POST / HTTP/1.1\r\n\r\n")
RECORD = CallRecord.of(INVOCATION, "q", CallStatus.SUCCEEDED)


def served(*headers: tuple[bytes, bytes]) -> RawHeaders:
    return answer_headers(RECORD, Result(200, list(headers), 0))


def values(headers: RawHeaders, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name.lower()]


@pytest.mark.parametrize("spelled", [bytes.title, bytes.lower, bytes.upper])
def test_a_stored_answer_says_nothing_in_the_gateways_name(spelled: object) -> None:
    names = (b"X-Call-Id", b"X-Start-Time", b"X-Served-By")
    forged = [(spelled(name), b"forged") for name in names]  # type: ignore[operator]
    found = served(*forged, (b"X-Own", b"kept"))
    assert [values(found, name) for name in names] == [[b"own"], [b"17"], [answers.SERVED_BY]]
    assert values(found, b"X-Own") == [b"kept"]


@pytest.mark.parametrize(
    "name",
    [
        b"Content-Security-Policy",
        b"content-security-policy",
        b"X-Content-Type-Options",
        b"Cross-Origin-Resource-Policy",
        b"Referrer-Policy",
    ],
)
def test_a_function_does_not_weaken_the_sandbox(name: bytes) -> None:
    (value,) = values(served((name, b"weak")), name)
    assert value == values(served(), name)[0] != b"weak"


@pytest.mark.parametrize(
    "name",
    [
        b"Set-Cookie",
        b"Clear-Site-Data",
        b"Service-Worker-Allowed",
        b"Strict-Transport-Security",
        b"Access-Control-Allow-Origin",
        b"ACCESS-CONTROL-ALLOW-CREDENTIALS",
        b"Refresh",
        b"Link",
        b"Report-To",
        b"Reporting-Endpoints",
        b"NEL",
        b"Content-Security-Policy-Report-Only",
        b"Alt-Svc",
        b"WWW-Authenticate",
        b"Connection",
        b"Transfer-Encoding",
        b"Content-Length",
    ],
)
def test_what_would_act_beyond_the_answer_is_left_out(name: bytes) -> None:
    assert served((name, b"x"), (b"A", b"b")) == [(b"A", b"b"), *served()]


def test_everything_else_is_the_functions_in_its_order_and_number() -> None:
    own = [
        (b"Content-Type", b"text/html"),
        (b"X-A", b"1"),
        (b"x-a", b"2"),
        (b"Content-Disposition", b"attachment"),
        (b"Content-Encoding", b"gzip"),
        (b"ETag", b'"1"'),
        (b"Location", b"/elsewhere"),
        (b"Date", b"Fri, 27 Nov 2026 00:00:00 GMT"),
    ]
    assert served(*own)[: len(own)] == own


def test_headers_that_the_functions_connection_named_went_no_further() -> None:
    assert served((b"Connection", b"X-Hop"), (b"X-Hop", b"1")) == served()
