"""What the gateway takes for a callback URL, the worker can call, and both see the same host in it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.callback_guard import CallbackGuard
from holdfast.errors import BadRequest
from holdfast.gateway.call_options import check_callback_url
from holdfast.worker.callback import destination

GATEWAY = "http://127.0.0.1:8080"
GUARD = CallbackGuard()
SCHEMES = ["http://", "https://", "HTTP:", "//", "ftp:"]
MARKS = [
    "/",
    "\\",
    "@",
    ":",
    ":80",
    ":0",
    "?",
    "#",
    "[",
    "]",
    "%",
    "%2e",
    "%00",
    ".",
    "..",
    ";",
    "\t",
    "\n",
    " ",
    "\x7f",
]
HOSTS = ["127.0.0.1", "10.1", "0x7f.1", "2130706433", "::1", "::ffff:", "localhost", "example.com", "v1.", "\xe9", "-"]
PATHS = ["/function/", "/async-function/", "/system/", "next"]
PIECES = st.sampled_from([*SCHEMES, *MARKS, *HOSTS, *PATHS])


@given(st.lists(PIECES, min_size=1, max_size=8).map("".join))
@example("http://[::1]example.com/")
@example("http://[v1.a]/")
@example("http://127.0.0.1:8080/function/next")
def test_a_url_is_refused_or_can_be_called(url: str) -> None:
    try:
        text = check_callback_url(url.encode("latin-1"), GUARD)
    except BadRequest:
        return
    to = destination(text, GATEWAY)
    assert to.own == text.startswith(("/function/", "/async-function/"))
    assert to.own or GUARD.refusal(to.origin) is None
    assert b"\r" not in to.target
    assert b"\n" not in to.target
    assert b" " not in to.target


@pytest.mark.parametrize("url", ["/function/next/../../system/functions", "/function/", "/functions/next", "/system"])
def test_no_path_but_a_functions_is_taken(url: str) -> None:
    with pytest.raises(BadRequest):
        check_callback_url(url.encode(), GUARD)
