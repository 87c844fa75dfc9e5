from __future__ import annotations

import pytest

from holdfast.errors import SettingError
from holdfast.nats_address import ServerAddress, without_credentials


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("nats://host:4333", ServerAddress("host", 4333)),
        ("nats://host", ServerAddress("host", 4222)),
        ("host", ServerAddress("host", 4222)),
        ("host:4333", ServerAddress("host", 4333)),
        ("tls://host/", ServerAddress("host", 4222, tls=True)),
        ("nats://user:p%40ss%3A@host", ServerAddress("host", 4222, user="user", password="p@ss:")),
        ("nats://s3cret@host", ServerAddress("host", 4222, token="s3cret")),
        ("nats://u:p@[::1]:4333", ServerAddress("::1", 4333, user="u", password="p")),
    ],
)
def test_a_server_url_is_read(url: str, address: ServerAddress) -> None:
    assert ServerAddress.parse(url) == address


@pytest.mark.parametrize(
    "url",
    ["", "http://host", "nats://", "nats://u:p@", "nats://host:port", "nats://host:70000", "nats://host/x", "[::1"],
)
def test_nonsense_is_refused_as_a_setting(url: str) -> None:
    with pytest.raises(SettingError) as refused:
        ServerAddress.parse(url)
    assert refused.value.name == "nats_url"


def test_a_password_is_in_no_error_and_no_log_form() -> None:
    with pytest.raises(SettingError) as refused:
        ServerAddress.parse("nats://u:topsecret@host:port")
    assert "topsecret" not in str(refused.value)
    assert str(ServerAddress.parse("nats://u:topsecret@[::1]:1")) == "[::1]:1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://h", "nats://h"),
        ("http://u:p@h", "http://…@h"),
        ("u:p@h:1", "…@h:1"),
        ("nats://u:p/w,x@a,nats://u:q@b", "nats://…@b"),
        ("http://u:p@h@i", "http://…@i"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
