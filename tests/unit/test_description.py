"""What a gateway or worker makes of a provider's description, by the host that it is on."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.description import is_loopback, read
from holdfast.function import FunctionRef
from holdfast.http1.client import Origin

REF = FunctionRef("echo")
PROVIDER = Origin("10.0.0.6", 8083)
LOCAL = {
    "endpoints": ["http://127.0.0.1:4000"],
    "localEndpoints": ["unix:@holdfast-1"],
    "instances": ["echo.openfaas-fn/echo-1/aa"],
    "hostId": "there",
    "providerId": "0a1b",
    "replicas": 1,
}
HERE = Origin("127.0.0.1", 4000, local="\0holdfast-1", instance="echo.openfaas-fn/echo-1/aa")


def test_on_the_providers_host_loopback_and_unix_sockets_are_used() -> None:
    found = read(REF, LOCAL, PROVIDER, "there")
    assert found.origins == (HERE,)
    assert (found.trouble, found.out_of_reach, found.provider_id) == ("", False, "0a1b")


def test_on_another_host_they_are_not_and_it_is_said_what_to_set() -> None:
    found = read(REF, LOCAL, PROVIDER, "here")
    assert found.origins == ()
    assert found.out_of_reach
    for word in ("http://127.0.0.1:4000", "replica_host", "replica_announce"):
        assert word in found.trouble


def test_an_announced_address_is_used_on_every_host_and_the_unix_socket_on_its_own_only() -> None:
    announced = LOCAL | {"endpoints": ["http://10.0.0.6:4000"]}
    origin = HERE._replace(host="10.0.0.6")
    assert read(REF, announced, PROVIDER, "there").origins == (origin,)
    assert read(REF, announced, PROVIDER, "here").origins == (origin._replace(local=""),)


def test_an_earlier_provider_which_names_no_host_and_no_instance_is_called_as_before() -> None:
    older = {name: LOCAL[name] for name in ("endpoints", "localEndpoints")}
    assert read(REF, older, PROVIDER, "here").origins == (HERE._replace(instance=""),)


def test_a_provider_that_is_not_ours_is_called_itself() -> None:
    found = read(REF, {"availableReplicas": 2, "replicas": 2}, PROVIDER, "here")
    assert (found.origins, found.prefix, found.trouble) == ((PROVIDER,), b"/function/echo.openfaas-fn", "")
    asleep = read(REF, {}, PROVIDER, "here")
    assert (asleep.origins, asleep.asleep, asleep.out_of_reach) == ((), True, False)


def test_without_a_replica_it_is_said_why() -> None:
    none = LOCAL | {"endpoints": [], "localEndpoints": [], "instances": []}
    broken = none | {"replicas": 2, "lastError": {"message": "the watchdog ended\nmore"}}
    assert read(REF, broken, PROVIDER, "there").trouble == "none of its 2 replicas is ready: the watchdog ended"
    assert read(REF, none | {"replicas": 0}, PROVIDER, "there").trouble == "it is scaled to zero"
    assert not read(REF, broken, PROVIDER, "here").out_of_reach


@pytest.mark.parametrize(
    "change",
    [
        {"instances": ["a b"]},
        {"instances": ["a\r\nX: y"]},
        {"instances": []},
        {"localEndpoints": ["tcp:x"]},
        {"endpoints": ["ftp://x"]},
        {"lastError": "text", "endpoints": [], "localEndpoints": [], "instances": []},
    ],
)
def test_what_is_no_description_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, AttributeError, TypeError)):
        read(REF, LOCAL | change, PROVIDER, "there")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("::", True),
        ("localhost", True),
        ("functions.localhost", True),
        ("10.0.0.6", False),
        ("fd00::6", False),
        ("functions.internal", False),
    ],
)
def test_loopback_is_known_in_all_its_spellings(host: str, expected: bool) -> None:  # noqa: FBT001 - a column
    assert is_loopback(host) is expected
