"""Requests that the gateway itself makes to the provider, whole answers at a time.

What is only passed on is relayed by system.py and never comes here.
"""

from __future__ import annotations

from holdfast.http1.client import Answer, ClientPool, Origin
from holdfast.http1.message import request_message

TIMEOUT_S = 30.0
LONGEST_WAIT_S = 300.0
# Of a provider that holds its answer for `?wait=`.
MOST_ANSWER_BYTES = 64 * 1024 * 1024


class Upstream:
    """One provider and the header that it wants."""

    def __init__(self, pool: ClientPool, origin: Origin, authorization: bytes | None) -> None:
        self.pool = pool
        self.origin = origin
        self.authorization = authorization

    async def ask(self, method: bytes, target: bytes, body: bytes = b"", *, timeout_s: float = TIMEOUT_S) -> Answer:
        """Send a request, with a JSON body or none; gives the answer whatever its status. Raises PeerError."""
        headers = [(b"Host", self.origin.netloc), (b"Accept", b"application/json")]
        if body:
            headers.append((b"Content-Type", b"application/json"))
        if self.authorization:
            headers.append((b"Authorization", self.authorization))
        request = request_message(method, target, headers, body)
        return await self.pool.fetch(self.origin, request, timeout_s=timeout_s, max_body_bytes=MOST_ANSWER_BYTES)
