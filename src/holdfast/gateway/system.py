"""The /system API: checked here, answered by the provider.

The gateway adds nothing of its own to what the provider says; it is the one place that callers of the API reach, with
the user and password that protect it. The provider has credentials of its own, which callers never see.
"""

from __future__ import annotations

from holdfast.basic_auth import Credentials
from holdfast.gateway import answers
from holdfast.headers import SERVED_BY
from holdfast.http1.client import ClientPool, Origin
from holdfast.http1.relay import relay
from holdfast.http1.server import Exchange

PREFIX = b"/system/"


class System:
    """Forwards /system to one provider."""

    def __init__(
        self, *, pool: ClientPool, provider: Origin, required: Credentials | None, authorization: bytes | None
    ) -> None:
        """`required` is what callers must show, `authorization` the header value that the provider wants."""
        self._pool = pool
        self._provider = provider
        self._required = required
        self._authorization = authorization

    def forward(self, exchange: Exchange, target: bytes) -> None:
        """Answer 401, or relay. Logs may be followed for hours, so the answer has no time limit of its own."""
        if self._required is not None and not self._required.matches(exchange.header(b"authorization")):
            answers.refuse(
                exchange,
                401,
                "this needs the user and password of this gateway, as in curl --user admin:PASSWORD.",
                b'WWW-Authenticate: Basic realm="Restricted"\r\n',
            )
            return
        relay(
            exchange,
            self._pool,
            self._provider,
            target=target,
            extra_headers=[(b"Authorization", self._authorization)] if self._authorization else [],
            answer_headers=[(SERVED_BY, answers.SERVED_BY)],
            timeout_s=None,
            done=lambda _status: None,
            without=frozenset({b"authorization"}),
        )
