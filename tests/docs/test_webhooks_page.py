"""The verifier that the page offers to copy agrees with what a worker signs."""

import base64
import time
from collections.abc import Callable

from holdfast.worker.signature import delivery_headers, read_secrets
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "howto" / "webhooks.md"
SECRETS = ["whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3)]


def test_the_verifier_in_the_page_knows_ours_from_others() -> None:
    (text,) = [block.text for block in blocks("python") if block.page == PAGE and "def verified" in block.text]
    names: dict[str, Callable[[str, dict[str, str], bytes], bool]] = {}
    exec(text, names)  # noqa: S102 - what a reader would run
    verified = names["verified"]

    def headers(at_s: int) -> dict[str, str]:
        made = delivery_headers(read_secrets("\n".join(SECRETS[:2])), "0cf3-11", at_s, b"\xff body")
        return {name.decode(): value.decode() for name, value in made}

    now = int(time.time())
    assert verified(SECRETS[0], headers(now), b"\xff body")
    assert verified(SECRETS[1], headers(now), b"\xff body")
    assert not verified(SECRETS[2], headers(now), b"\xff body")
    assert not verified(SECRETS[0], headers(now), b"\xff bode")
    assert not verified(SECRETS[0], headers(now - 600), b"\xff body")
