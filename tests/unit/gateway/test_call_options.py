from __future__ import annotations

import pytest

from holdfast.callback_guard import LOOPBACK, CallbackGuard
from holdfast.errors import BadRequest
from holdfast.function import FunctionRef
from holdfast.gateway.call_options import CallOptions, fingerprint, read_depth
from holdfast.invocation import CallId, Invocation

GUARD = CallbackGuard(LOOPBACK.split(","))
FUNCTION = FunctionRef("charge")
CALL = Invocation(CallId("c"), "m", FUNCTION, 1_000_000_000, None, b"POST /a HTTP/1.1\r\nX: 1\r\n\r\nbody")


def test_what_was_asked_for_is_in_the_call() -> None:
    options = CallOptions.read(
        {
            b"x-failure-callback-url": b"http://127.0.0.1:1/failed",
            b"x-delay": b"30s",
            b"x-expires-after": b"10m",
            b"x-timeout": b"5",
        },
        GUARD,
    )
    assert options.delay_s == 30
    call = options.apply(CALL)
    assert call.failure_callback_url == "http://127.0.0.1:1/failed"
    assert call.timeout_s == 5
    # The time to start in begins when it may start.
    assert call.expires_at_ns == 1_000_000_000 + 630 * 10**9
    assert call.message_id == "m"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"x-delay", b"soon"),
        (b"x-delay", b"0"),
        (b"x-delay", b"-1s"),
        (b"x-delay", b"999999999999"),
        (b"x-expires-after", b""),
        (b"x-timeout", b"\xff"),
        (b"x-failure-callback-url", b"example.com"),
        (b"x-failure-callback-url", b"http://169.254.169.254/latest"),
        (b"idempotency-key", b""),
        (b"idempotency-key", b"a b"),
        (b"idempotency-key", b"a" * 256),
        (b"idempotency-key", b"\xc3\xa9"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(header: bytes, value: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        CallOptions.read({header: value}, GUARD)
    assert caught.value.status == 400
    assert header.decode() in str(caught.value).lower()


def test_target_and_body_make_a_request_the_same_and_headers_do_not() -> None:
    assert fingerprint(CALL.request) == fingerprint(b"POST /a HTTP/1.1\r\nX: 2\r\n\r\nbody")
    assert fingerprint(CALL.request) != fingerprint(b"POST /a HTTP/1.1\r\nX: 1\r\n\r\nother")
    assert fingerprint(CALL.request) != fingerprint(b"POST /b HTTP/1.1\r\nX: 1\r\n\r\nbody")


def test_each_callback_counts_and_one_too_many_is_a_loop() -> None:
    assert read_depth(b"0", 16) == 1
    assert read_depth(b"15", 16) == 16
    with pytest.raises(BadRequest) as caught:
        read_depth(b"16", 16)
    assert caught.value.status == 508
    assert "callback_max_depth" in str(caught.value)


@pytest.mark.parametrize("value", [b"", b"-1", b"one", b"1.5", b"9" * 10, b"\xb2", b" 1"])
def test_a_depth_that_is_no_number_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        read_depth(value, 16)
    assert caught.value.status == 400
