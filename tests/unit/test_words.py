"""The shared words: durations, function names, headers, call ids, settings."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.duration import format_duration, parse_duration
from holdfast.errors import SettingError
from holdfast.function import FunctionRef
from holdfast.headers import first, forwardable
from holdfast.invocation import is_call_id, new_call_id
from holdfast.settings import (
    GatewaySettings,
    LogSettings,
    NatsSettings,
    ProviderSettings,
    Settings,
    WatchdogSettings,
    WorkerSettings,
)

EVERY_PART: list[type[Settings]] = [
    GatewaySettings,
    LogSettings,
    NatsSettings,
    ProviderSettings,
    WatchdogSettings,
    WorkerSettings,
]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60", 60.0), ("0", 0.0), ("1m30s", 90.0), ("250ms", 0.25), ("1h", 3600.0), (" 5s ", 5.0), ("1.5s", 1.5)],
)
def test_a_whole_number_is_seconds_and_anything_else_a_go_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "6O", "-1s", "-5", "1 minute", "s", "1e3", "٣"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("is not a duration such as")):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**7))
def test_a_duration_is_written_as_it_is_read(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("figlet", ("figlet", "openfaas-fn")),
        ("figlet.dev", ("figlet", "dev")),
        ("a.b.dev", ("a.b", "dev")),
        (".dev", (".dev", "openfaas-fn")),
        ("figlet.", ("figlet.", "openfaas-fn")),
    ],
)
def test_the_namespace_follows_the_last_dot(text: str, expected: tuple[str, str]) -> None:
    assert FunctionRef.parse(text) == expected


def test_hop_by_hop_headers_and_those_that_connection_names_do_not_travel() -> None:
    headers = [
        (b"Connection", b"X-Secret, keep-alive"),
        (b"X-Secret", b"1"),
        (b"TE", b"trailers"),
        (b"Accept", b"a"),
        (b"accept", b"b"),
        (b"Host", b"h"),
        (b"Transfer-Encoding", b"chunked"),
    ]
    assert forwardable(headers) == [(b"Accept", b"a"), (b"accept", b"b")]
    assert first(headers, b"accept") == b"a"
    assert first(headers, b"x-none") is None


@pytest.mark.parametrize("value", [b"a/b", b"a.b", b"", b"a\r\nb", b"x" * 129, b"a b", "é".encode()])
def test_a_call_id_that_would_not_fit_a_subject_is_no_call_id(value: bytes) -> None:
    assert not is_call_id(value)


def test_our_own_call_ids_are_call_ids_and_differ() -> None:
    ids = {new_call_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_call_id(call_id.encode()) for call_id in ids)


@pytest.mark.parametrize("part", EVERY_PART)
def test_every_setting_has_a_usable_default(part: type[Settings]) -> None:
    part.from_environment({})


@pytest.mark.parametrize("part", EVERY_PART)
def test_an_empty_variable_counts_as_unset(part: type[Settings]) -> None:
    assert part.from_environment({setting.name: "" for setting in part.declared()}) == part.from_environment({})


@pytest.mark.parametrize(
    ("part", "name", "value", "expected"),
    [
        (WorkerSettings, "ack_wait", "6O", "a duration above zero such as 60s or 1m30s"),
        (WorkerSettings, "ack_wait", "0", "a duration above zero such as 60s or 1m30s"),
        (WorkerSettings, "max_inflight", "0", "a whole number, 1 to 10000"),
        (GatewaySettings, "gateway_port", "70000", "a whole number, 0 to 65535"),
        (GatewaySettings, "basic_auth", "maybe", "true or false"),
        (
            GatewaySettings,
            "functions_provider_url",
            "localhost:8083",
            "the URL of one server such as http://127.0.0.1:8081, without user and password",
        ),
        (LogSettings, "log_encoding", "xml", "console or json"),
    ],
)
def test_nonsense_is_refused_with_what_would_work(part: type[Settings], name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingError) as caught:
        part.from_environment({name: value})
    assert str(caught.value) == f"{name}={value!r} cannot be used: expected {expected}"
    assert (caught.value.name, caught.value.value, caught.value.expected) == (name, value, expected)


def test_openfaas_names_are_understood() -> None:
    worker = WorkerSettings.from_environment(
        {"faas_gateway_address": "gw", "faas_gateway_port": "8000", "ack_wait": "1m", "upstream_timeout": "90"}
    )
    assert (worker.gateway, worker.ack_wait_s, worker.upstream_timeout_s) == ("http://gw:8000", 60.0, 90.0)
    assert NatsSettings.from_environment({"faas_nats_address": "n", "faas_nats_port": "1"}).servers() == ["nats://n:1"]
    assert NatsSettings.from_environment({"nats_url": "nats://a, nats://b"}).servers() == ["nats://a", "nats://b"]
