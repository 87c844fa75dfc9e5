"""Which user and password go to which gateway."""

import base64
from pathlib import Path

import pytest

from holdfast.client import find_credentials, register_server

LOCAL = "http://127.0.0.1:8080"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write_config(folder: Path, gateway: str) -> None:
    folder.mkdir(exist_ok=True)
    token = base64.b64encode(b"admin:of:faas-cli").decode()
    (folder / "config.yml").write_text(f"auths:\n- gateway: {gateway}\n  auth: basic\n  token: {token}\noptions: []\n")


def serve_from(data: Path) -> None:
    (data / "secrets").mkdir(parents=True)
    (data / "secrets" / "basic-auth-user").write_text("admin\n")
    (data / "secrets" / "basic-auth-password").write_text("of-the-server\n")
    register_server(LOCAL, data)


def password(gateway: str, environ: dict[str, str] | None = None) -> str | None:
    found = find_credentials(gateway, environ or {})
    return found.password if found else None


def test_nothing_known_gives_none() -> None:
    assert find_credentials(LOCAL, {}) is None


def test_the_environment_comes_before_the_login_and_the_login_before_the_local_server(home: Path) -> None:
    serve_from(home / "data")
    assert password(LOCAL) == "of-the-server"
    write_config(home / ".openfaas", LOCAL)
    assert password(LOCAL) == "of:faas-cli"
    assert password(LOCAL, {"OPENFAAS_USER": "me", "OPENFAAS_PASSWORD": "from-here"}) == "from-here"


def test_a_login_made_by_faas_cli_is_found_in_its_file(home: Path) -> None:
    write_config(home / ".openfaas", "http://gateway.example:8080")
    found = find_credentials("http://gateway.example:8080/", {})
    assert found is not None
    assert (found.user, found.password) == ("admin", "of:faas-cli")


def test_the_folder_of_that_file_may_be_named(home: Path) -> None:
    write_config(home / "elsewhere", LOCAL)
    assert password(LOCAL) is None
    assert password(LOCAL, {"OPENFAAS_CONFIG": str(home / "elsewhere")}) == "of:faas-cli"


def test_a_login_for_localhost_counts_for_127_0_0_1(home: Path) -> None:
    write_config(home / ".openfaas", "http://localhost:8080")
    assert password(LOCAL) == "of:faas-cli"


def test_a_password_goes_only_to_the_gateway_it_is_for(home: Path) -> None:
    serve_from(home / "data")
    write_config(home / ".openfaas", "http://gateway.example")
    environ = {"OPENFAAS_URL": "http://a.example", "OPENFAAS_USER": "me", "OPENFAAS_PASSWORD": "for-a"}
    assert password("http://a.example", environ) == "for-a"
    assert password("http://b.example", environ) is None
    assert password("http://b.example") is None
    assert password("http://127.0.0.1:9999") is None


def test_a_user_without_a_password_in_the_environment_is_not_enough() -> None:
    assert find_credentials(LOCAL, {"OPENFAAS_USER": "me"}) is None


@pytest.mark.parametrize(
    "text",
    ["", "[", "auths: 1", "auths:\n- 1", "- 1", f"auths:\n- gateway: {LOCAL}\n  auth: basic\n  token: '%'", "\xff"],
)
def test_a_damaged_file_knows_no_password(home: Path, text: str) -> None:
    (home / ".openfaas").mkdir()
    (home / ".openfaas" / "config.yml").write_text(text, encoding="latin-1")
    assert find_credentials(LOCAL, {}) is None


def test_a_server_without_authentication_has_no_password(home: Path) -> None:
    register_server(LOCAL, home / "data")
    assert find_credentials(LOCAL, {}) is None


def test_a_password_does_not_show_when_credentials_are_printed(home: Path) -> None:
    serve_from(home / "data")
    assert "of-the-server" not in repr(find_credentials(LOCAL, {}))
