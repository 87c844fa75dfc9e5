import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.headers import RawHeaders
from holdfast.watchdog.environment import request_environment, variable_name


def environment(
    headers: RawHeaders, *, target: bytes = b"/", base: dict[str, str] | None = None, method: bytes = b"POST"
) -> dict[str, str]:
    return request_environment(base or {}, method=method, target=target, headers=headers, body_length=3)


@pytest.mark.parametrize(
    ("header", "variable"),
    [
        (b"X-Call-Id", "Http_X_Call_Id"),
        (b"x-call-id", "Http_X_Call_Id"),
        (b"X-CALL-ID", "Http_X_Call_Id"),
        (b"Content-Type", "Http_Content_Type"),
        (b"ETag", "Http_Etag"),
        (b"host", "Http_Host"),
        (b"x--y", "Http_X__Y"),
        (b"a.b!c", "Http_A_B_C"),
    ],
)
def test_a_headers_variable_does_not_depend_on_the_callers_spelling(header: bytes, variable: str) -> None:
    assert variable_name(header) == variable


def test_the_request_line_arrives_untouched() -> None:
    found = environment([], target=b"/a%2Fb//..?q=%00&a=1&a=2+3&", method=b"PATCH")
    assert found == {
        "Http_Method": "PATCH",
        "Http_Path": "/a%2Fb//..",
        "Http_Query": "q=%00&a=1&a=2+3&",
        "Http_Content_Length": "3",
    }


def test_the_values_of_a_repeated_header_are_joined_in_order() -> None:
    found = environment([(b"Accept", b"a"), (b"Cookie", b"x=1"), (b"accept", b"b, c"), (b"Cookie", b"y=2")])
    assert found["Http_Accept"] == "a, b, c"
    assert found["Http_Cookie"] == "x=1; y=2"


def test_a_header_spelled_with_underscores_cannot_take_the_place_of_another() -> None:
    for headers in (
        [(b"X-User", b"me"), (b"X_User", b"forged")],
        [(b"X_User", b"forged"), (b"X-User", b"me")],
    ):
        assert environment(headers)["Http_X_User"] == "me"
    assert environment([(b"X_User", b"alone")])["Http_X_User"] == "alone"


def test_a_header_cannot_take_the_place_of_the_request_line() -> None:
    found = environment([(b"Method", b"x"), (b"Path", b"x"), (b"Query", b"x"), (b"Content-Length", b"77")])
    assert found["Http_Method"] == "POST"
    assert found["Http_Path"] == "/"
    assert found["Http_Query"] == ""
    assert found["Http_Content_Length"] == "3"


def test_a_caller_cannot_choose_the_functions_proxy() -> None:
    assert "Http_Proxy" not in environment([(b"Proxy", b"http://evil"), (b"pRoXy", b"http://evil")])


def test_the_functions_own_variables_stay() -> None:
    assert environment([(b"A", b"1")], base={"NAME": "value"})["NAME"] == "value"


TOKENS = st.text("ABCxyz019-_.!~", min_size=1, max_size=12).map(str.encode)
VALUES = st.binary(max_size=20).filter(lambda value: not set(value) & {0, 10, 13})


@given(st.lists(st.tuples(TOKENS, VALUES), max_size=8))
def test_any_headers_can_be_handed_to_a_process_and_keep_their_bytes(headers: RawHeaders) -> None:
    found = environment(headers)
    for name, value in found.items():
        assert "=" not in name
        assert "\0" not in name + value
    if len(headers) == 1 and variable_name(headers[0][0]) not in {
        "Http_Method",
        "Http_Path",
        "Http_Query",
        "Http_Content_Length",
        "Http_Proxy",
    }:
        assert os.fsencode(found[variable_name(headers[0][0])]) == headers[0][1]


def test_bytes_that_are_not_text_reach_the_process_as_they_are() -> None:
    found = environment([(b"X-Raw", b"\xff\xfe caf\xe9")])
    shown = subprocess.run(["printenv", "Http_X_Raw"], env={**os.environ, **found}, capture_output=True, check=True)
    assert shown.stdout == b"\xff\xfe caf\xe9\n"
