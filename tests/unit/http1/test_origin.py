from __future__ import annotations

import pytest

from holdfast.http1.origin import Origin


@pytest.mark.parametrize(
    ("url", "origin", "netloc"),
    [
        ("http://127.0.0.1:8080", Origin("127.0.0.1", 8080), b"127.0.0.1:8080"),
        ("http://gateway", Origin("gateway", 80), b"gateway"),
        ("https://Example.com/a?b", Origin("example.com", 443, tls=True), b"example.com"),
        ("https://example.com:80", Origin("example.com", 80, tls=True), b"example.com:80"),
        ("http://[::1]:8080/x", Origin("::1", 8080), b"[::1]:8080"),
        ("http://[::1]", Origin("::1", 80), b"[::1]"),
    ],
)
def test_an_origin_is_read_from_a_url(url: str, origin: Origin, netloc: bytes) -> None:
    assert Origin.parse(url) == origin
    assert Origin.parse(url).netloc == netloc
    assert Origin.parse(str(origin)) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "/path",
        "ftp://a",
        "http://",
        "http://u:p@a",
        "http://a:99999",
        "http://a:0",
        "http://a b",
        "http://ä",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Origin.parse(url)
