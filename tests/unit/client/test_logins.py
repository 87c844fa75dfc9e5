"""The file of logins, shared with faas-cli."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast.basic_auth import Credentials
from holdfast.client import find_credentials
from holdfast.client.errors import LoginFileUnusable
from holdfast.client.logins import forget_login, keep_login

REMOTE = "https://gateway.example.com"
OTHERS: dict[str, Any] = {
    "auths": [
        {"gateway": REMOTE, "auth": "basic", "token": "b2xkOm9sZA=="},
        {"gateway": "https://other.example.com", "auth": "oauth2", "token": "x", "options": {"client": "y"}},
    ],
    "options": ["kept"],
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"OPENFAAS_CONFIG": str(tmp_path / "openfaas")}


def path(environ: dict[str, str]) -> Path:
    return Path(environ["OPENFAAS_CONFIG"]) / "config.yml"


def write(environ: dict[str, str], text: str) -> None:
    path(environ).parent.mkdir()
    path(environ).write_text(text)


def test_a_login_is_kept_as_faas_cli_keeps_it_and_found_again(environ: dict[str, str]) -> None:
    assert keep_login(REMOTE, Credentials("me", "a:b ü"), environ) == path(environ)
    token = base64.b64encode("me:a:b ü".encode()).decode()
    content = {"auths": [{"gateway": REMOTE, "auth": "basic", "token": token}], "options": []}
    assert yaml.safe_load(path(environ).read_text()) == content
    assert find_credentials(REMOTE, environ) == Credentials("me", "a:b ü")


def test_the_logins_are_for_the_users_own_eyes(environ: dict[str, str]) -> None:
    keep_login(REMOTE, Credentials("me", "secret"), environ)
    assert path(environ).stat().st_mode & 0o777 == 0o600
    assert path(environ).parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in path(environ).parent.iterdir()] == ["config.yml"]


def test_a_new_login_replaces_the_old_one_and_leaves_the_rest(environ: dict[str, str]) -> None:
    write(environ, yaml.safe_dump(OTHERS))
    keep_login(REMOTE + "/", Credentials("me", "new"), environ)
    found = yaml.safe_load(path(environ).read_text())
    assert found["auths"][0] == OTHERS["auths"][1]
    assert len(found["auths"]) == 2
    assert found["options"] == ["kept"]
    assert find_credentials(REMOTE, environ) == Credentials("me", "new")


def test_logging_out_removes_the_login_of_that_gateway_alone(environ: dict[str, str]) -> None:
    write(environ, yaml.safe_dump(OTHERS))
    assert forget_login(REMOTE, environ)
    assert yaml.safe_load(path(environ).read_text())["auths"] == [OTHERS["auths"][1]]
    assert not forget_login(REMOTE, environ)


@pytest.mark.parametrize("text", ["auths: [", "- a\n", "auths: text\n"])
def test_a_file_that_is_not_understood_is_not_written_over(environ: dict[str, str], text: str) -> None:
    write(environ, text)
    with pytest.raises(LoginFileUnusable):
        keep_login(REMOTE, Credentials("me", "secret"), environ)
    assert path(environ).read_text() == text
