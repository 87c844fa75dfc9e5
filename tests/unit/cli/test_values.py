"""What may be written on the command line."""

from datetime import UTC, datetime, timedelta

import click
import pytest

from holdfast.cli import values


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("X-Callback-Url: http://127.0.0.1:8888/?a=b", "X-Callback-Url", "http://127.0.0.1:8888/?a=b"),
        ("X-Callback-Url=http://127.0.0.1:8888/?a=b", "X-Callback-Url", "http://127.0.0.1:8888/?a=b"),
        ("X-Empty:", "X-Empty", ""),
        ("X-Empty=", "X-Empty", ""),
        ("Cookie: a=b; c=d", "Cookie", "a=b; c=d"),
        ("X-Name:  spaced\t", "X-Name", "spaced"),
        ("X-Text: grüße", "X-Text", "grüße"),
    ],
)
def test_a_header_is_divided_at_whichever_sign_comes_first(text: str, name: str, value: str) -> None:
    assert values.header(text) == (name, value)


@pytest.mark.parametrize("text", ["no sign", "", ": value", "=value", "Two words: x", "X\r\nY: z", "Grüße: x"])
def test_what_has_no_header_name_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a header"):
        values.header(text)


@pytest.mark.parametrize("text", ["X-A: b\r\nX-Forged: c", "X-A: b\nc", "X-A: \0"])
def test_a_header_value_cannot_start_another_header(text: str) -> None:
    with pytest.raises(click.BadParameter, match="line break or a NUL"):
        values.header(text)


def test_a_query_pair_is_divided_at_its_first_equals_sign() -> None:
    assert values.query_pair("expression=a=b") == ("expression", "a=b")
    assert values.query_pair("empty=") == ("empty", "")


@pytest.mark.parametrize("text", ["", "key", "=value"])
def test_a_query_pair_needs_a_key_and_an_equals_sign(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not key=value"):
        values.query_pair(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://gateway.example/", "http://gateway.example"),
        ("127.0.0.1:31112", "http://127.0.0.1:31112"),
        ("https://example.com/faas/", "https://example.com/faas"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_gateway_is_named_by_its_url_or_host_and_port(text: str, url: str) -> None:
    assert values.gateway_url(text) == url


@pytest.mark.parametrize(
    "text", ["", "ftp://a", "http://", "http://a:b", "http://a:70000", "http://a:0", "http://[::1"]
)
def test_a_gateway_url_that_leads_nowhere_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a URL"):
        values.gateway_url(text)


@pytest.mark.parametrize("text", ["", "a b", "a/b", "ä", "a\n"])
def test_a_function_name_has_only_characters_that_a_route_can_carry(text: str) -> None:
    with pytest.raises(click.BadParameter):
        values.function_name(text)


def test_since_takes_a_duration_before_now() -> None:
    instant = datetime.fromisoformat(values.since("10m"))
    assert abs(datetime.now(UTC) - timedelta(minutes=10) - instant) < timedelta(seconds=10)


def test_since_takes_a_time_and_gives_it_in_utc() -> None:
    assert values.since("2026-01-31T09:00:00+01:00") == "2026-01-31T08:00:00Z"


@pytest.mark.parametrize("text", ["yesterday", "", "-5m", "99999999999999h"])
def test_since_refuses_what_is_neither(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is neither"):
        values.since(text)


def test_a_timeout_is_a_duration_as_openfaas_writes_it() -> None:
    assert values.duration("1m30s") == 90.0
    assert values.duration("15") == 15.0
    with pytest.raises(click.BadParameter):
        values.duration("soon")


def test_a_variable_may_be_empty_and_have_a_sign_of_equality_in_it() -> None:
    assert values.pair("A=") == ("A", "")
    assert values.pair("A=b=c") == ("A", "b=c")
    for text in ("A", "=b", ""):
        with pytest.raises(click.BadParameter, match="is not KEY=VALUE"):
            values.pair(text)


@pytest.mark.parametrize("text", ["128Mi", "500m", "1", "1.5Gi", ""])
def test_a_quantity_is_kept_as_it_was_written(text: str) -> None:
    assert values.quantity(text) == text


@pytest.mark.parametrize("text", ["lots", "-1", "1 Mi", "1MiB"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no quantity such as 128Mi"):
        values.quantity(text)


def test_an_expression_that_is_none_is_refused() -> None:
    assert values.regular_expression("^a") == "^a"
    with pytest.raises(click.BadParameter, match="is no regular expression: missing"):
        values.regular_expression("(")


@pytest.mark.parametrize(
    ("written", "namespace", "meant"),
    [
        ("figlet", "", ("figlet", "")),
        ("figlet.dev", "", ("figlet", "dev")),
        ("figlet", "dev", ("figlet", "dev")),
        ("figlet.x", "dev", ("figlet.x", "dev")),
        (".dev", "", (".dev", "")),
    ],
)
def test_a_name_may_have_its_namespace_in_it(written: str, namespace: str, meant: tuple[str, str]) -> None:
    assert values.split_name(written, namespace) == meant


def test_a_queue_may_come_with_its_number_of_calls() -> None:
    assert values.queue_and_slots("slow=4") == ("slow", 4)
    assert values.queue_and_slots("slow") == ("slow", None)


@pytest.mark.parametrize(
    "text", ["", "=4", "slow=", "slow=0", "slow=10001", "slow=four", "slow=-1", "holdfast=2", "a.b=1"]
)
def test_a_queue_with_a_number_or_name_that_it_cannot_have_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        values.queue_and_slots(text)
