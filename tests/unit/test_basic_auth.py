import base64
from pathlib import Path
from typing import Any

import pytest

from holdfast.basic_auth import BasicAuth, Credentials, read_credentials
from holdfast.errors import SettingError

ADMIN = Credentials("admin", "s3cret:with:colons")


def basic(pair: str, scheme: str = "Basic") -> bytes:
    return f"{scheme} {base64.b64encode(pair.encode()).decode()}".encode()


@pytest.mark.parametrize(
    ("header", "good"),
    [
        (basic("admin:s3cret:with:colons"), True),
        (basic("admin:s3cret:with:colons", "bAsIc"), True),
        (ADMIN.header(), True),
        (basic("admin:wrong"), False),
        (basic("other:s3cret:with:colons"), False),
        (basic("admin:s3cret:with:colons", "Bearer"), False),
        (basic(""), False),
        (b"Basic", False),
        (b"Basic not base64!", False),
        (b"", False),
        (None, False),
    ],
)
def test_only_the_right_user_and_password_match(header: bytes | None, good: bool) -> None:  # noqa: FBT001
    assert ADMIN.matches(header) is good


def test_a_password_never_shows_in_a_representation() -> None:
    assert "s3cret" not in repr(ADMIN)


def test_credentials_are_read_without_the_line_end(tmp_path: Path) -> None:
    (tmp_path / "basic-auth-user").write_text("admin\n")
    (tmp_path / "basic-auth-password").write_text("pass word\r\n")
    assert read_credentials(tmp_path) == Credentials("admin", "pass word")


@pytest.mark.parametrize(
    ("user", "password", "message"),
    [
        ("admin", None, "basic-auth-password cannot be read: No such file"),
        ("admin", "\n", "basic-auth-password is empty"),
        ("ad:min", "x", "has a colon"),
    ],
)
def test_unusable_credentials_are_a_setting_error_that_names_the_file(
    tmp_path: Path, user: str, password: str | None, message: str
) -> None:
    (tmp_path / "basic-auth-user").write_text(user)
    if password is not None:
        (tmp_path / "basic-auth-password").write_text(password)
    with pytest.raises(SettingError, match=message):
        read_credentials(tmp_path)


async def ask(path: str, *authorization: bytes) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    headers = [(b"authorization", value) for value in authorization]
    await BasicAuth(app, ADMIN)({"type": "http", "path": path, "headers": headers}, receive, send)
    return sent


async def test_a_request_without_credentials_is_challenged() -> None:
    sent = await ask("/system/functions")
    assert sent[0]["status"] == 401
    assert dict(sent[0]["headers"])[b"www-authenticate"].startswith(b"Basic ")


async def test_a_request_with_credentials_passes_and_two_sets_of_them_do_not() -> None:
    assert (await ask("/system/functions", ADMIN.header()))[0]["status"] == 200
    assert (await ask("/system/functions", ADMIN.header(), ADMIN.header()))[0]["status"] == 401


async def test_the_health_check_needs_no_credentials() -> None:
    assert (await ask("/healthz"))[0]["status"] == 200
