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


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://user@example.com/", id="a user"),
        pytest.param("http://:@example.com/", id="an empty user"),
        pytest.param("http://example.com@127.0.0.1/", id="a host that is a user"),
        pytest.param("http://127.0.0.1\\@example.com/", id="a backslash before a user"),
        pytest.param("http://127.0.0.1\\.example.com/", id="a backslash in a host"),
        pytest.param("http://example.com\\@127.0.0.1/", id="a backslash and a host behind it"),
        pytest.param("http:/127.0.0.1/", id="one slash"),
        pytest.param("http:127.0.0.1/", id="no slash"),
        pytest.param("http:///127.0.0.1/", id="three slashes"),
        pytest.param("//127.0.0.1/", id="no scheme"),
        pytest.param("\thttp://127.0.0.1/", id="a tab before"),
        pytest.param("http://127.0.\n0.1/", id="a line end within"),
        pytest.param("http://%31%32%37.0.0.1/", id="encoded digits"),
        pytest.param("http://127%2e0%2e0%2e1/", id="encoded dots"),
        pytest.param("http://127.0.0.1%00.example.com/", id="an encoded NUL"),
        pytest.param("http://127.0.0.1%23@example.com/", id="an encoded fragment"),
        pytest.param("http://127.0.0.1#@example.com/", id="a fragment"),
        pytest.param("http://127.0.0.1?@example.com/", id="a query"),
        pytest.param("http://127.0.0.1;@example.com/", id="a parameter"),
        pytest.param("http://127\u30020\u30020\u30021/", id="ideographic full stops"),
        pytest.param("http://127\uff0e0\uff0e0\uff0e1/", id="fullwidth full stops"),
        pytest.param("http://127\uff610\uff610\uff611/", id="halfwidth full stops"),
        pytest.param("http://\uff11\uff12\uff17.0.0.1/", id="fullwidth digits"),
        pytest.param("http://\u2460\u2461\u2466.0.0.1/", id="circled digits"),
        pytest.param("http://loc\u00adalhost/", id="a soft hyphen"),
        pytest.param("http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3/", id="circled letters"),
        pytest.param("http://localhost:80:80/", id="two ports"),
        pytest.param("http://[::1]:80example.com/", id="letters in a port"),
        pytest.param("http://[::1]@example.com/", id="an address for a user"),
        pytest.param("http://[::1/", id="half an address"),
        pytest.param("http://[]/", id="no address"),
        pytest.param("http://[fe80::1%25eth0]/", id="a zone"),
        pytest.param("http://[::1%25]/", id="an empty zone"),
        pytest.param("http://[::ffff:10.0.0.1%2525lo]/", id="a zone encoded twice"),
        pytest.param("http://127.1:65536/", id="a port beyond"),
        pytest.param("file://127.0.0.1/etc/passwd", id="a file"),
        pytest.param("gopher://127.0.0.1:6379/_FLUSHALL", id="another scheme"),
        pytest.param("unix:///var/run/docker.sock", id="a socket"),
    ],
)
def test_no_spelling_gets_a_callback_to_where_it_may_not_go(url: str) -> None:
    with pytest.raises(BadRequest):
        check_callback_url(url.encode(), GUARD)


@pytest.mark.parametrize("url", ["/function/next/../../system/functions", "/function/", "/functions/next", "/system"])
def test_no_path_but_a_functions_is_taken(url: str) -> None:
    with pytest.raises(BadRequest):
        check_callback_url(url.encode(), GUARD)
