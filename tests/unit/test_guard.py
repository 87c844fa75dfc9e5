from collections.abc import MutableMapping
from typing import Any

import pytest

from holdfast.basic_auth import Credentials
from holdfast.guard import Guard, Guarded, Refusal
from holdfast.headers import RawHeaders, first

ADMIN = Credentials("admin", "secret")
PROOF = ("Authorization", ADMIN.header().decode())


class Asking:
    def __init__(self, *headers: tuple[str, str], host: str = "localhost:8080") -> None:
        pairs = [("Host", host), *headers] if host else headers
        self.headers: RawHeaders = [(name.encode(), value.encode()) for name, value in pairs]

    def header(self, lower_name: bytes) -> bytes | None:
        return first(self.headers, lower_name)


def status(guard: Guard, asking: Asking) -> int:
    refusal = guard.refusal(asking)
    return refusal.status if refusal else 200


def test_a_callback_may_not_use_the_api_of_a_gateway_without_a_password() -> None:
    assert status(Guard(None, loopback=True), Asking(("X-Function-Status", "200"))) == 403
    assert status(Guard(ADMIN, loopback=True), Asking(PROOF, ("x-function-status", "200"))) == 403


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Authorization", "Bearer x"),),
        (("Authorization", Credentials("admin", "Secret").header().decode()),),
        (("Authorization", Credentials("other", "secret").header().decode()),),
        (PROOF, ("authorization", "Basic eDp5")),
        (PROOF, PROOF),
        (("Authorization", "Basic ***"),),
    ],
)
def test_without_exactly_the_password_a_request_is_challenged(headers: tuple[tuple[str, str], ...]) -> None:
    refusal = Guard(ADMIN, loopback=True).refusal(Asking(*headers))
    assert refusal is not None
    assert refusal.status == 401
    assert refusal.headers.startswith(b"WWW-Authenticate: Basic ")
    assert "`holdfast login`" in refusal.text


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), 200),
        ((("Sec-Fetch-Site", "same-origin"),), 200),
        ((("Sec-Fetch-Site", "none"),), 200),
        ((("Sec-Fetch-Site", "cross-site"),), 403),
        ((("Sec-Fetch-Site", "same-site"),), 403),
        ((("Sec-Fetch-Site", ""),), 403),
        ((("Sec-Fetch-Site", "cross-site"), ("Origin", "http://localhost:8080")), 403),
        # The browser's word counts: behind a proxy the origin's host is not the one the gateway is called by.
        ((("Sec-Fetch-Site", "same-origin"), ("Origin", "https://faas.example.com")), 200),
        ((("Origin", "http://localhost:8080"),), 200),
        ((("Origin", "http://LOCALHOST:8080"),), 200),
        ((("Origin", "http://localhost:3000"),), 403),
        ((("Origin", "http://localhost"),), 403),
        ((("Origin", "https://example.com"),), 403),
        ((("Origin", "null"),), 403),
        ((("Origin", ""),), 403),
    ],
)
def test_a_page_of_another_origin_is_refused_even_with_the_password(
    headers: tuple[tuple[str, str], ...], expected: int
) -> None:
    assert status(Guard(ADMIN, loopback=True), Asking(PROOF, *headers)) == expected
    assert status(Guard(None, loopback=True), Asking(*headers)) == expected


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://example.com", "example.com"),
        ("http://example.com", "example.com:80"),
        ("https://example.com", "example.com"),
        ("https://example.com:443", "example.com"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_an_origin_and_a_host_may_spell_the_default_port_or_not(origin: str, host: str) -> None:
    assert status(Guard(None, loopback=False), Asking(("Origin", origin), host=host)) == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("localhost:8080", 200),
        ("LocalHost.:8080", 200),
        ("faas.localhost:8080", 200),
        ("127.0.0.1:8080", 200),
        ("127.1.2.3", 200),
        ("[::1]:8080", 200),
        ("192.168.1.5:8080", 200),
        ("faas.example.com", 200),
        ("attacker.example", 403),
        ("localhost.attacker.example:8080", 403),
        ("127.0.0.1.attacker.example", 403),
        ("2130706433", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_an_open_gateway_on_loopback_is_only_called_by_names_that_cannot_be_rebound(host: str, expected: int) -> None:
    guard = Guard(None, loopback=True, hosts=["FaaS.example.com"])
    assert status(guard, Asking(host=host)) == expected


def test_with_a_password_or_for_the_network_every_host_is_right() -> None:
    assert status(Guard(ADMIN, loopback=True), Asking(PROOF, host="faas.example.com")) == 200
    assert status(Guard(None, loopback=False), Asking(host="faas.example.com")) == 200


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("localhost:8080", False),
        ("127.0.0.1", False),
        ("[::1]:8080", False),
        ("0.0.0.0:8080", False),
        ("FaaS.example.com:81", False),
        # Without a name: HTTP/1.0, which no browser speaks.
        ("", False),
        ("attacker.example", True),
        ("attacker.example:8080", True),
        ("localhost.attacker.example", True),
        ("faas.example.com.attacker.example", True),
    ],
)
def test_a_foreign_name_is_refused_by_every_route_of_an_open_server_on_loopback(host: str, *, refused: bool) -> None:
    guard = Guard(None, loopback=True, hosts=["faas.example.com."])
    for _ in range(2):  # what was found right is not read again
        refusal = guard.foreign_host(Asking(host=host))
        assert (refusal is not None) is refused
        assert refusal is None or (refusal.status, "allowed_hosts" in refusal.text) == (403, True)
    for other in (Guard(ADMIN, loopback=True), Guard(None, loopback=False)):
        assert other.foreign_host(Asking(host=host)) is None


async def test_what_is_refused_never_reaches_the_application_behind() -> None:
    reached: list[str] = []
    sent: list[MutableMapping[str, Any]] = []

    async def application(scope: MutableMapping[str, Any], _receive: object, _send: object) -> None:
        reached.append(scope["path"])

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("nothing is read of what is refused")

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    def decide(asking: Any) -> Refusal | None:
        return Refusal(403, "no") if asking.header(b"x-bad") == b"1" else None

    guarded = Guarded(application, decide)
    await guarded({"type": "http", "path": "/a", "headers": [(b"x-bad", b"1")]}, receive, send)
    await guarded({"type": "http", "path": "/b", "headers": []}, receive, send)
    assert reached == ["/b"]
    assert [message.get("status", message.get("body")) for message in sent] == [403, b"no\n"]
