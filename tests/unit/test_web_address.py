from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.errors import SettingError
from holdfast.http1.origin import Origin
from holdfast.settings import GatewaySettings, NatsSettings, ProviderSettings, WatchdogSettings, WorkerSettings
from holdfast.web_address import check_url, is_host

UNUSABLE = [
    "h:80",
    "ftp://h",
    "http://",
    "http://:80",
    "http://[",
    "http://[::1",
    "http://u:p@h",
    "http://u@h",
    "http://h:99999",
    "http://h:-1",
    "http://h:0",
    "http://h:x",
    "http://a,http://b",
    "http://a:1,b:2",
    "http://a b",
    "http://h/?x=1",
    "http://h#x",
    "http://ho\x00st",
    "http://höst",
    "http://a..b",
    "http://" + "a" * 300,
]


@pytest.mark.parametrize("url", UNUSABLE)
@pytest.mark.parametrize(
    ("record", "name"),
    [
        (GatewaySettings, "functions_provider_url"),
        (WorkerSettings, "functions_provider_url"),
        (WorkerSettings, "gateway_url"),
        (ProviderSettings, "gateway_url"),
        (WatchdogSettings, "upstream_url"),
    ],
)
def test_a_setting_that_is_no_url_of_one_server_is_refused(record: type[WorkerSettings], name: str, url: str) -> None:
    with pytest.raises(SettingError) as caught:
        record.from_environment({name: url})
    assert caught.value.name == name
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://h", "https://h:443/", "http://[::1]:80", "http://gateway.openfaas:8080", "http://my_host. "]
)
def test_urls_that_users_have_are_taken(url: str) -> None:
    assert WorkerSettings.from_environment({"gateway_url": url}).gateway == url.strip().rstrip("/")


PARTS = st.sampled_from(
    ["http://", "https://", "h", "a.b", "[::1]", ":", "80", "99999", "/", "x", " ", ",", "@", "?", "%"]
)


@given(st.lists(PARTS, max_size=6).map("".join) | st.text(max_size=30).map("http://".__add__))
@example("http://[v1.x]")
def test_what_a_setting_takes_can_be_called(url: str) -> None:
    try:
        check_url(url)
    except ValueError:
        return
    origin = Origin.parse(url)
    assert is_host(origin.host)
    assert origin.host == urlsplit(url).hostname


@pytest.mark.parametrize(
    "url", [",", " ", "nats://", "nats://h:0", "nats://h:99999", "nats://a b", "nats://h/x", "http://h"]
)
def test_a_list_of_servers_with_one_that_cannot_be_used_is_refused(url: str) -> None:
    for text in (url, f"nats://good:4222,{url}" if url.strip(" ,") else url):
        with pytest.raises(SettingError):
            NatsSettings.from_environment({"nats_url": text})


def test_an_ipv6_address_alone_stands_in_brackets_in_a_url() -> None:
    assert NatsSettings.from_environment({"faas_nats_address": "::1"}).servers() == ["nats://[::1]:4222"]
    assert WorkerSettings.from_environment({"faas_gateway_address": "::1"}).gateway == "http://[::1]:8080"


@pytest.mark.parametrize("host", ["", "a b", "http://h", "h:80", "[::1]", "a/b", "-", "h\n", "ö"])
def test_a_host_to_listen_on_is_a_name_or_an_address(host: str) -> None:
    assert not is_host(host)


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "::", "fe80::1%eth0", "a.b-c.d_e", "h."])
def test_hosts_that_users_have_are_taken(host: str) -> None:
    assert is_host(host)
