from __future__ import annotations

import pytest

from holdfast.callback_guard import LOOPBACK, CallbackGuard
from holdfast.errors import BadRequest
from holdfast.gateway.call_options import check_callback_url
from holdfast.gateway.route import Names, read_route

GUARD = CallbackGuard(LOOPBACK.split(","))


@pytest.mark.parametrize(
    ("target", "name", "rest"),
    [
        (b"/function/figlet", b"figlet", b"/"),
        (b"/async-function/figlet", b"figlet", b"/"),
        (b"/async-function/figlet/", b"figlet", b"/"),
        (b"/async-function/figlet.dev/a/b?c=d", b"figlet.dev", b"/a/b?c=d"),
        (b"/async-function/figlet?", b"figlet", b"/?"),
        (b"/async-function/figlet?a=1&a=2", b"figlet", b"/?a=1&a=2"),
        (b"/async-function/figlet/%2F%3F%00//../x+y?q=%26+", b"figlet", b"/%2F%3F%00//../x+y?q=%26+"),
        (b"/async-function/figlet//", b"figlet", b"//"),
        (b"/async-function/figlet/a?b?c/d", b"figlet", b"/a?b?c/d"),
    ],
)
def test_the_function_sees_the_bytes_after_its_name(target: bytes, name: bytes, rest: bytes) -> None:
    assert read_route(target) == (name, rest)


@pytest.mark.parametrize(
    "target", [b"/async-function/", b"/async-function/a%20b", b"/function//x", b"/async-function/a b", b"/function/a*"]
)
def test_what_is_no_function_name_is_no_route(target: bytes) -> None:
    assert read_route(target) is None


def test_a_route_that_is_remembered_is_the_same_again() -> None:
    for target in (b"/function/a/b?c", b"/function/", b"/function/a/" + b"x" * 300):
        assert read_route(target) == read_route(target)


def test_remembered_names_do_not_grow_without_end() -> None:
    names = Names("openfaas-fn")
    for number in range(10_000):
        assert names[b"f%d" % number].name == f"f{number}"
    assert len(names._refs) <= 4096


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8888",
        "https://example.com/done?x=1",
        "http://[::1]:8888/a",
        "http://localhost:8888/a",
        "HTTP://2130706433/a",
        "/function/next",
        "/function/next?a=/../",
        "/async-function/next.dev/path?q",
    ],
)
def test_a_usable_callback_url_is_kept_as_it_is(url: str) -> None:
    assert check_callback_url(url.encode(), GUARD) == url


@pytest.mark.parametrize(
    "url",
    [
        "example.com/done",
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "//example.com/x",
        "/system/functions",
        "http://user:password@example.com/",
        "http://example.com:99999/",
        "http://example.com:0/",
        "http://exa mple.com/",
        "http://example.com/\x01",
        "http://[::1",
        "http://exämple.com/",
        "http://example.com/" + "a" * 9000,
        "javascript:alert(1)",
        "gopher://example.com/",
        "http://@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://example.com:80@127.0.0.1/",
        "http://10.0.0.1/",
        "http://0x0a000001/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://0.0.0.0/",
        "http://127.0.0.1%2f@example.com/",
        "http://127.0.0.1%00.example.com/",
        "http://example.com\\.internal/",
        "/function/",
        "/function/next/../../system/functions",
        "/function/..%2fsystem",
        "/function/next/%2e%2E/system",
    ],
)
def test_an_unusable_callback_url_is_refused_with_what_would_work(url: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_callback_url(url.encode(), GUARD)
    assert caught.value.status == 400
    assert "X-Callback-Url" in str(caught.value)
