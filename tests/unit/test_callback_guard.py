from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.callback_guard import LOOPBACK, CallbackGuard, OwnPort, kind_of
from holdfast.errors import AddressRefused, SettingError
from holdfast.http1.origin import Origin

PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]


def guard(allow: str = "", *, deny_private: bool = True, resolves_to: Sequence[str] = PUBLIC) -> CallbackGuard:
    async def resolver(_host: str, _port: int) -> Sequence[str]:
        return resolves_to

    return CallbackGuard([entry for entry in allow.split(",") if entry], deny_private=deny_private, resolver=resolver)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://127.0.0.1/", "loopback"),
        ("http://127.255.255.254:8080/", "loopback"),
        ("http://127.1/", "loopback"),
        ("http://127.0.1/", "loopback"),
        ("http://2130706433/", "loopback"),
        ("http://0x7f000001/", "loopback"),
        ("http://0X7F.1/", "loopback"),
        ("http://0x7f.0x0.0x0.0x1/", "loopback"),
        ("http://0177.0.0.1/", "loopback"),
        ("http://017700000001/", "loopback"),
        ("http://0177.0x0.1/", "loopback"),
        ("http://127.0.0.1./", "loopback"),
        ("http://127.0.0.1../", "loopback"),
        ("http://localhost/", "loopback"),
        ("http://LocalHost:99/", "loopback"),
        ("http://localhost./", "loopback"),
        ("http://a.localhost/", "loopback"),
        ("http://[::1]/", "loopback"),
        ("http://[0:0:0:0:0:0:0:1]/", "loopback"),
        ("http://[::ffff:127.0.0.1]/", "loopback"),
        ("http://[::ffff:7f00:1]/", "loopback"),
        ("http://[::127.0.0.1]/", "loopback"),
        ("http://[64:ff9b::7f00:1]/", "loopback"),
        ("http://[::1%25lo]/", "loopback"),
        ("http://[::1%lo]/", "loopback"),
        ("http://[::ffff:127.0.0.1%251]/", "loopback"),
        ("http://[0:0:0:0:0:ffff:7f00:0001]/", "loopback"),
        ("http://[2606:4700::5efe:7f00:1]/", "loopback"),
        ("http://[2606:4700::200:5efe:127.0.0.1]/", "loopback"),
        ("http://0x7f000001./", "loopback"),
        ("http://00000177.1/", "loopback"),
        ("http://[2002:7f00:1::]/", "loopback"),
        ("http://0/", "unspecified"),
        ("http://0.0.0.0/", "unspecified"),
        ("http://0x0/", "unspecified"),
        ("http://[::]/", "unspecified"),
        ("http://[::ffff:0:0]/", "unspecified"),
        ("http://0.1.2.3/", "reserved"),
        ("http://10.0.0.1/", "private"),
        ("http://10.1/", "private"),
        ("http://167772161/", "private"),
        ("http://172.16.0.1/", "private"),
        ("http://172.31.255.255/", "private"),
        ("http://192.168.1.1/", "private"),
        ("http://0300.0250.1.1/", "private"),
        ("http://[fd00::1]/", "private"),
        ("http://[fec0::1]/", "private"),
        ("http://[2002:a00:1::]/", "private"),
        ("http://[64:ff9b::a00:1]/", "private"),
        ("http://[::ffff:192.168.0.1]/", "private"),
        ("http://100.64.0.1/", "shared"),
        ("http://100.100.100.200/", "shared"),
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://2852039166/", "link-local"),
        ("http://0xa9fea9fe/", "link-local"),
        ("http://0251.0376.0251.0376/", "link-local"),
        ("http://[::ffff:a9fe:a9fe]/", "link-local"),
        ("http://[fe80::1]/", "link-local"),
        ("http://[fe80::1%25eth0]/", "link-local"),
        ("http://[FE80::A9FE:A9FE%1]/", "link-local"),
        ("http://169.16689662/", "link-local"),
        ("http://[2606:4700::5efe:a9fe:a9fe]/", "link-local"),
        ("http://[::ffff:0:169.254.169.254]/", "reserved"),
        ("http://[fd00:ec2::254]/", "private"),
        ("http://[fd20:ce::254]/", "private"),
        ("http://168.63.129.16/", "metadata"),
        ("http://192.0.0.192/", "reserved"),
        ("http://198.18.0.1/", "reserved"),
        ("http://192.88.99.1/", "reserved"),
        ("http://192.0.2.1/", "documentation"),
        ("http://[2001:db8::1]/", "documentation"),
        ("http://[3fff::1]/", "documentation"),
        ("http://224.0.0.1/", "multicast"),
        ("http://[ff02::1]/", "multicast"),
        ("http://240.0.0.1/", "reserved"),
        ("http://255.255.255.255/", "reserved"),
        ("http://[2001:0:7f00:1::]/", "reserved"),
        ("http://[64:ff9b:1::1]/", "reserved"),
        ("http://[5f00::1]/", "reserved"),
        ("http://[4000::1]/", "reserved"),
    ],
)
async def test_no_spelling_of_an_address_that_is_not_public_is_called(url: str, kind: str) -> None:
    origin = Origin.parse(url)
    refusal = guard().refusal(origin)
    assert refusal is not None
    assert f"({kind})" in refusal
    with pytest.raises(AddressRefused) as caught:
        await guard().addresses(origin)
    assert caught.value.reason == refusal


@pytest.mark.parametrize(
    "host", ["127.0.0.1%2f", "%31%32%37.0.0.1", "127.0.0.1\\.example.com", "fe80::1%lo", "a..b", "-a", "a,b", "a" * 64]
)
def test_what_is_neither_a_name_nor_an_address_is_refused(host: str) -> None:
    assert guard().refusal(Origin(host, 80)) is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.215.14/",
        "https://example.com/",
        "https://example.com./",
        "http://a_b.example.com:8080/",
        "http://xn--exmple-cua.com/",
        "http://172.32.0.1/",
        "http://100.128.0.1/",
        "http://[2606:4700::1111]/",
        "http://[64:ff9b::5db8:d70e]/",
        "http://[::ffff:93.184.215.14]/",
    ],
)
async def test_what_is_public_may_be_called(url: str) -> None:
    assert guard().refusal(Origin.parse(url)) is None
    assert await guard().addresses(Origin.parse(url))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "fe80::1%2", "169.254.169.254", "::ffff:a00:1"])
async def test_a_name_with_one_forbidden_address_is_refused_without_naming_it(address: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        await guard(resolves_to=[*PUBLIC, address]).addresses(Origin("example.com", 80))
    assert "example.com" in str(caught.value)
    assert address not in str(caught.value)


async def test_a_name_is_resolved_each_time_and_what_was_looked_at_is_what_is_given() -> None:
    answers = [["93.184.215.14"], ["127.0.0.1"]]

    async def resolver(_host: str, _port: int) -> Sequence[str]:
        return answers.pop(0)

    changing = CallbackGuard(resolver=resolver)
    assert await changing.addresses(Origin("example.com", 80)) == ["93.184.215.14"]
    with pytest.raises(AddressRefused):
        await changing.addresses(Origin("example.com", 80))


async def test_an_address_is_connected_to_in_its_plain_form() -> None:
    assert await guard("127.0.0.1").addresses(Origin("0x7f.1", 80)) == ["127.0.0.1"]
    assert await guard("127.0.0.1").addresses(Origin("::ffff:127.0.0.1", 80)) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("allow", "url", "allowed"),
    [
        (LOOPBACK, "http://127.0.0.1:8888/", True),
        (LOOPBACK, "http://[::1]:8888/", True),
        (LOOPBACK, "http://localhost:8888/", True),
        (LOOPBACK, "http://2130706433/", True),
        (LOOPBACK, "http://10.0.0.1/", False),
        (LOOPBACK, "http://0.0.0.0/", False),
        (LOOPBACK, "http://169.254.169.254/", False),
        ("10.1.0.0/16", "http://10.1.2.3/", True),
        ("10.1.0.0/16", "http://10.2.2.3/", False),
        ("fd00::/8", "http://[fd00::1]/", True),
        ("10.1.2.3:8080", "http://10.1.2.3:8080/", True),
        ("10.1.2.3:8080", "http://10.1.2.3/", False),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]:8081/", False),
        ("localhost", "http://localhost:1/", True),
        ("localhost:2", "http://localhost:1/", False),
        ("127.0.0.1", "http://[2002:7f00:1::]/", False),
        ("127.0.0.1", "http://[64:ff9b::7f00:1]/", False),
    ],
)
def test_the_allow_list_opens_what_it_names_and_nothing_else(allow: str, url: str, *, allowed: bool) -> None:
    assert (guard(allow).refusal(Origin.parse(url)) is None) is allowed


@pytest.mark.parametrize(
    ("allow", "url", "allowed"),
    [
        ("hooks.internal", "http://hooks.internal:1/", True),
        ("Hooks.Internal.", "http://hooks.internal/", True),
        ("hooks.internal", "http://HOOKS.internal./", True),
        ("hooks.internal", "http://a.hooks.internal/", False),
        ("hooks.internal", "http://evilhooks.internal/", False),
        ("hooks.internal:8080", "http://hooks.internal:8080/", True),
        ("hooks.internal:8080", "http://hooks.internal/", False),
        ("*.internal", "http://a.b.internal/", True),
        ("*.internal", "http://internal/", False),
        ("*.internal", "http://evil-internal/", False),
        ("*.internal:81", "http://a.internal:81/", True),
        ("*.internal:81", "http://a.internal/", False),
        ("a.internal,10.0.0.0/8", "http://b.internal/", True),
    ],
)
async def test_a_listed_name_may_have_any_address(allow: str, url: str, *, allowed: bool) -> None:
    checked = guard(allow, resolves_to=["10.0.0.1"])
    if allowed:
        assert await checked.addresses(Origin.parse(url)) == ["10.0.0.1"]
    else:
        with pytest.raises(AddressRefused):
            await checked.addresses(Origin.parse(url))


async def test_without_the_rule_private_addresses_may_be_called() -> None:
    open_guard = guard(deny_private=False, resolves_to=["10.0.0.1"])
    assert open_guard.refusal(Origin("127.0.0.1", 80)) is None
    assert await open_guard.addresses(Origin("example.com", 80)) == ["10.0.0.1"]


@pytest.mark.parametrize(
    "entry",
    ["*", "*.", "a b", "10.0.0.1/8", "10.0.0.0/33", "a:0", "a:99999", "a:b", "http://a", "a/b", "*.*.a", "a..b"],
)
def test_an_entry_that_cannot_be_used_is_named_at_the_start(entry: str) -> None:
    with pytest.raises(SettingError) as caught:
        guard(entry)
    assert (caught.value.name, caught.value.value) == ("callback_allow", entry)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_within_an_ipv6_address_is_judged_as_itself(address: object) -> None:
    number = int(address)  # type: ignore[call-overload]
    kind = kind_of(ip_address(number))
    assert kind_of(ip_address(f"::ffff:{address}")) == kind
    assert kind_of(ip_address((0x64FF9B << 96) | number)) == kind
    assert kind_of(ip_address((0x2002 << 112) | (number << 80))) == kind
    assert kind_of(ip_address((0x2606_4700 << 96) | (0x5EFE << 32) | number)) == kind
    if number > 0xFFFF:
        assert kind_of(ip_address(f"::{address}")) == kind


@given(st.ip_addresses())
def test_what_python_knows_to_be_special_is_not_public(address: object) -> None:
    known = ip_address(str(address))
    if not known.is_global or known.is_multicast:
        assert kind_of(known) is not None


OWN = [OwnPort("127.0.0.1", 8083), OwnPort("0.0.0.0", 8082), OwnPort("nats.internal", 4222), OwnPort("10.0.0.5", 8081)]


def guard_of_parts(*, resolves_to: Sequence[str] = PUBLIC, nats_at: str = "10.0.0.9") -> CallbackGuard:
    """One whose operator allows all that may be allowed."""

    async def resolver(host: str, _port: int) -> Sequence[str]:
        return [nats_at] if host == "nats.internal" else resolves_to

    return CallbackGuard(
        [LOOPBACK.split(",")[0], "::1", "10.0.0.0/8", "nats.internal", "hooks.internal"],
        own=OWN,
        gateway=OwnPort("127.0.0.1", 8080),
        resolver=resolver,
        deny_private=False,
    )


@pytest.mark.parametrize("port", [8082, 8083])
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.0.2",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "0",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ],
)
async def test_no_spelling_of_this_machine_leads_a_callback_to_a_port_of_holdfast(host: str, port: int) -> None:
    checked = guard_of_parts()
    origin = Origin.parse(f"http://{host}:{port}/function/echo")
    assert "a port of Holdfast itself" in (checked.refusal(origin) or "")
    with pytest.raises(AddressRefused):
        await checked.addresses(origin)
    # Another port of the same machine is somebody else's.
    assert checked.refusal(Origin.parse(f"http://{host}:9999")) is None


async def test_nor_does_an_address_that_this_machine_has_in_a_network() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses the address that would be used
        own = probe.getsockname()[0]
    assert guard_of_parts().refusal(Origin(own, 8083)) is not None
    assert guard_of_parts().refusal(Origin(own, 8088)) is None


@pytest.mark.parametrize(
    ("host", "port", "leads_to", "refused"),
    [
        ("hooks.internal", 8083, "127.0.0.1", True),
        ("hooks.internal", 8083, "::1", True),
        ("hooks.internal", 9999, "127.0.0.1", False),
        ("hooks.internal", 8083, "10.0.0.7", False),
        ("hooks.internal", 8081, "10.0.0.5", True),
        ("hooks.internal", 4222, "10.0.0.9", True),
        ("hooks.internal", 4222, "10.0.0.8", False),
        ("10.0.0.5", 8081, "", True),
        ("10.0.0.9", 4222, "", True),
        ("10.0.0.8", 4222, "", False),
        ("NATS.internal.", 4222, "10.0.0.9", True),
    ],
)
async def test_a_part_elsewhere_is_known_by_its_name_and_by_where_that_leads(
    host: str, port: int, leads_to: str, *, refused: bool
) -> None:
    checked = guard_of_parts(resolves_to=[leads_to])
    if refused:
        with pytest.raises(AddressRefused):
            await checked.addresses(Origin(host, port))
    else:
        assert await checked.addresses(Origin(host, port))


async def test_a_part_whose_name_leads_nowhere_is_in_nobodys_way() -> None:
    async def resolver(host: str, _port: int) -> Sequence[str]:
        if host == "nats.internal":
            raise OSError(host)
        return PUBLIC

    checked = CallbackGuard(own=OWN, resolver=resolver)
    assert await checked.addresses(Origin("example.com", 4222)) == PUBLIC


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("http://127.0.0.1:8080/function/echo", False),
        ("http://localhost:8080/async-function/echo?x=1", False),
        ("http://127.0.0.1:8080/system/functions", True),
        ("http://localhost:8080/system/functions", True),
        ("http://127.1:8080//system/functions", True),
        ("http://[::1]:8080/%73ystem/functions", True),
        ("http://0.0.0.0:8080/function/../system/functions", True),
        ("http://127.0.0.1:8080/function/%2e%2e/system/functions", True),
        ("http://127.0.0.1:8080/", True),
        ("http://127.0.0.1:8090/system/functions", False),
    ],
)
def test_of_the_gateway_callbacks_reach_functions_only(url: str, *, refused: bool) -> None:
    path = url.split(":", 2)[2].partition("/")[2].partition("?")[0]
    assert (guard_of_parts().refusal(Origin.parse(url), f"/{path}") is not None) is refused
