from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from holdfast.errors import SettingError
from holdfast.worker.signature import delivery_headers, read_secrets
from holdfast.worker.signing_secrets import SigningSecrets

OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 64).decode()
BODY = json.dumps({"état": "prêt", "of": 10**6}).encode()


def signed(*secrets: str, at_s: int | None = None, body: bytes = BODY) -> dict[str, str]:
    at_s = int(time.time()) if at_s is None else at_s
    headers = delivery_headers(read_secrets("\n".join(secrets)), "0cf3-11", at_s, body)
    return {name.decode(): value.decode() for name, value in headers}


def test_the_public_library_verifies_what_we_sign() -> None:
    headers = signed(NEW)
    assert Webhook(NEW).verify(BODY, headers) == json.loads(BODY)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(NEW).verify(BODY + b" ", headers)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(NEW).verify(BODY, headers | {"webhook-id": "other"})
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(OLD).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(NEW).verify(BODY, signed(NEW, at_s=int(time.time()) - 600))


def test_an_empty_body_is_signed_too() -> None:
    Webhook(NEW).verify(b"", signed(NEW, body=b""), json_parse=False)


def test_during_a_rotation_a_receiver_with_either_secret_is_content() -> None:
    headers = signed(NEW, OLD)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (NEW, OLD):
        assert Webhook(secret).verify(BODY, headers) == json.loads(BODY)


def test_the_example_of_the_specification_comes_out_the_same() -> None:
    # From the specification's repository, where every library is tested with it.
    keys = read_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = dict(delivery_headers(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'))
    assert headers[b"webhook-signature"] == b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_without_secrets_the_delivery_still_has_its_id() -> None:
    assert delivery_headers((), "0cf3-11", 1, b"") == [(b"webhook-id", b"0cf3-11")]


def test_a_secret_without_padding_is_the_same_secret() -> None:
    assert read_secrets(NEW.rstrip("=")) == read_secrets(f"# newest\n\n  {NEW}\r\n") == (b"n" * 64,)


@pytest.mark.parametrize(
    "line",
    [
        "c2VjcmV0",
        "whsec_",
        "whsec_!!!!",
        "whsec_" + base64.b64encode(b"s" * 23).decode(),
        "whsec_" + base64.b64encode(b"s" * 65).decode(),
        "whsk_" + base64.b64encode(b"s" * 32).decode(),
    ],
)
def test_a_secret_that_cannot_be_used_is_refused_by_its_line_and_not_shown(line: str) -> None:
    with pytest.raises(ValueError, match="line 2 ") as caught:
        read_secrets(f"{NEW}\n{line}")
    assert line.removeprefix("whsec_") == "" or line.removeprefix("whsec_") not in str(caught.value)


# ---- files


def write(path: Path, *secrets: str) -> Path:
    path.write_text("\n".join(secrets) + "\n")
    return path


def keys(*secrets: str) -> Sequence[bytes]:
    return read_secrets("\n".join(secrets))


def test_secrets_come_from_a_file_or_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    (folder / "..data").mkdir(parents=True)
    write(folder / ".hidden", "no secret")
    write(folder / "b", OLD)
    write(folder / "a", NEW)
    assert SigningSecrets(folder).keys == keys(NEW, OLD)
    assert SigningSecrets(folder / "b").keys == keys(OLD)


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "secret", OLD)
    secrets = SigningSecrets(path)
    write(path, NEW, OLD)
    assert secrets.keys == keys(OLD)  # what was read a moment ago is used for a while
    secrets.read_again()
    assert secrets.keys == keys(NEW, OLD)
    for broken in (b"", b"whsec_\n", b"\xff"):
        path.write_bytes(broken)
        secrets.read_again()
        assert secrets.keys == keys(NEW, OLD)
    path.unlink()
    secrets.read_again()
    assert secrets.keys == keys(NEW, OLD)


@pytest.mark.parametrize("content", [None, b"", b"# none yet\n", b"hunter2hunter2\n", b"whsec_\xff\n"])
def test_a_worker_that_cannot_sign_does_not_start(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingError) as caught:
        SigningSecrets(path)
    assert caught.value.name == "callback_signing_secret_path"
    assert "hunter2" not in str(caught.value)
