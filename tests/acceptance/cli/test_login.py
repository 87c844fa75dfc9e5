"""`holdfast login` and `logout`."""

import pytest

from holdfast.basic_auth import Credentials
from tests.acceptance.cli.conftest import FakeGateway, Holdfast, Request, Scripted, like_a_gateway

RIGHT = Credentials("admin", "open sesame")


@pytest.fixture
def guarded(gateway: FakeGateway) -> FakeGateway:
    """A gateway that wants a password."""

    def answering(request: Request) -> Scripted:
        given = next(iter(request.all("Authorization")), "")
        return like_a_gateway(request) if RIGHT.matches(given.encode()) else Scripted(401)

    gateway.answering = answering
    return gateway


@pytest.mark.parametrize("how", [["--password", RIGHT.password], ["--password-stdin"], ["-u", "admin", "-s"]])
def test_after_a_login_commands_need_no_password_and_after_a_logout_they_do(
    guarded: FakeGateway, holdfast: Holdfast, how: list[str]
) -> None:
    assert holdfast("list", "-g", guarded.url).code == 4
    ended = holdfast("login", "-g", guarded.url, *how, stdin=f"{RIGHT.password}\n".encode())
    assert ended.code == 0, ended.err
    assert RIGHT.password not in ended.out.decode() + ended.err
    assert holdfast("list", "-q", "-g", guarded.url).lines == ["echo", "figlet"]
    assert holdfast("logout", "-g", guarded.url).code == 0
    refused = holdfast("list", "-g", guarded.url)
    assert refused.code == 4
    assert f"holdfast login -g {guarded.url}" in refused.err


def test_a_login_is_checked_as_faas_cli_checks_it(guarded: FakeGateway, holdfast: Holdfast) -> None:
    holdfast("login", "-g", guarded.url, "-s", stdin=RIGHT.password.encode())
    request = guarded.request()
    assert (request.method, request.target) == ("GET", "/system/functions")


def test_a_password_that_the_gateway_refuses_is_not_kept(guarded: FakeGateway, holdfast: Holdfast) -> None:
    ended = holdfast("login", "-g", guarded.url, "--password-stdin", stdin=b"wrong\n")
    assert (ended.code, ended.out) == (4, b"")
    assert not (holdfast.home / ".openfaas").exists()


@pytest.mark.parametrize("how", [[], ["-s"], ["-s", "--password", "x"], ["-s", "-u", "a:b"]])
def test_a_login_that_cannot_be_used_is_refused_before_anything_is_sent(
    guarded: FakeGateway, holdfast: Holdfast, how: list[str]
) -> None:
    assert holdfast("login", "-g", guarded.url, *how, stdin=b"\n").code == 2
    assert guarded.received.empty()


def test_logging_out_of_where_nobody_logged_in_is_no_failure(guarded: FakeGateway, holdfast: Holdfast) -> None:
    ended = holdfast("logout", "-g", guarded.url)
    assert (ended.code, ended.out) == (0, b"")
    assert "No login was kept" in ended.err
