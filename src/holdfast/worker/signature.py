"""Sign callbacks as Standard Webhooks has it. No I/O, no clock.

    webhook-id           the delivery: the same for every attempt of one callback
    webhook-timestamp    Unix seconds of the attempt
    webhook-signature    v1,<base64 of HMAC-SHA256 over "<id>.<timestamp>.<body>">; one for each secret, spaces between

Several secrets serve rotation: a receiver needs to know one of them. Where secrets come from is signing_secrets.py's.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence

from holdfast.headers import WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, RawHeaders

PREFIX = "whsec_"
LEAST_KEY_BYTES = 24
MOST_KEY_BYTES = 64
# The specification's limits.


def read_secrets(text: str) -> tuple[bytes, ...]:
    """The keys in a text of one `whsec_…` on each line; empty lines and those that begin with # do not count.

    Raises ValueError that names the line and says nothing of what stands there.
    """
    return tuple(
        _read_secret(line.strip(), number)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    )


def _read_secret(line: str, number: int) -> bytes:
    rule = f"expected {PREFIX} and the base64 of {LEAST_KEY_BYTES} to {MOST_KEY_BYTES} bytes"
    if not line.startswith(PREFIX):
        raise ValueError(f"line {number} does not begin with {PREFIX}: {rule}")
    text = line.removeprefix(PREFIX)
    try:
        # Secrets are met without their padding as well.
        key = base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except ValueError:
        raise ValueError(f"line {number} is not base64: {rule}") from None
    if not LEAST_KEY_BYTES <= len(key) <= MOST_KEY_BYTES:
        raise ValueError(f"line {number} is a key of {len(key)} bytes: {rule}")
    return key


def sign(keys: Sequence[bytes], delivery_id: str, at_s: int, body: bytes) -> bytes:
    """The value of `webhook-signature`: one signature for each key, in their order."""
    signer = Signer(keys, delivery_id, at_s)
    signer.update(body)
    return signer.signature()


class Signer:
    """The signature of a body that comes in pieces."""

    def __init__(self, keys: Sequence[bytes], delivery_id: str, at_s: int) -> None:
        start = f"{delivery_id}.{at_s}.".encode()
        self._delivery_id = delivery_id
        self._at_s = at_s
        self._digests = [hmac.new(key, start, "sha256") for key in keys]

    @property
    def signs(self) -> bool:
        """Whether there are keys."""
        return bool(self._digests)

    def update(self, piece: bytes) -> None:
        """More of the body."""
        for digest in self._digests:
            digest.update(piece)

    def signature(self) -> bytes:
        """The value of `webhook-signature` once the body is complete."""
        return b" ".join([b"v1," + base64.b64encode(digest.digest()) for digest in self._digests])

    def headers(self) -> RawHeaders:
        """What a callback says of its delivery; without keys only the id, so that a second copy can be told anyway."""
        if not self._digests:
            return [(WEBHOOK_ID, self._delivery_id.encode())]
        return [
            (WEBHOOK_ID, self._delivery_id.encode()),
            (WEBHOOK_TIMESTAMP, b"%d" % self._at_s),
            (WEBHOOK_SIGNATURE, self.signature()),
        ]


def delivery_headers(keys: Sequence[bytes], delivery_id: str, at_s: int, body: bytes) -> RawHeaders:
    """What a callback with this body says of its delivery."""
    if not keys:
        return [(WEBHOOK_ID, delivery_id.encode())]
    signer = Signer(keys, delivery_id, at_s)
    signer.update(body)
    return signer.headers()
