"""The /system API: guarded here, answered by the provider, some of it completed here.

The gateway is the one place that callers of the API reach, with the user and password that protect it. The provider has
credentials of its own, which callers never see. What the gateway adds is in answered_here.py; everything else is
relayed as it is, streams included.
"""

from __future__ import annotations

from holdfast.gateway import answers
from holdfast.gateway.answered_here import AnsweredHere
from holdfast.gateway.call_list import PREFIX as CALLS
from holdfast.gateway.dead_letters import PREFIX as DEAD_LETTERS
from holdfast.gateway.measured import Measured
from holdfast.gateway.queues import PREFIX as QUEUES
from holdfast.gateway.upstream import Upstream
from holdfast.guard import Guard
from holdfast.headers import SERVED_BY
from holdfast.http1.asgi import AsgiApplication
from holdfast.http1.message import header_lines
from holdfast.http1.relay import Dropped, relay
from holdfast.http1.server import Exchange

PREFIX = b"/system/"

# The caller's credentials end here, also where the provider wants none; so does what a browser says of its page, which
# was judged here and by the name that the gateway was called by.
_DROPPED = Dropped.besides(
    (b"Authorization", b"Origin", b"Sec-Fetch-Site", b"Sec-Fetch-Mode", b"Sec-Fetch-Dest", b"Sec-Fetch-User"),
    (SERVED_BY,),
)
_SERVED_BY = header_lines([(SERVED_BY, answers.SERVED_BY)])


class System:
    """Sends each request to /system to the one who answers it."""

    def __init__(
        self,
        upstream: Upstream,
        guard: Guard,
        here: AnsweredHere,
        application: AsgiApplication,
        operation: AsgiApplication,
    ) -> None:
        """`application` serves `here`, `operation` what is about calls and queues; whoever made them ends them."""
        self._operation = operation
        self._upstream = upstream
        self._guard = guard
        self._here = here
        self._application = application
        authorization = [(b"Authorization", upstream.authorization)] if upstream.authorization else []
        self._credentials = header_lines(authorization)

    def forward(self, exchange: Exchange, target: bytes) -> None:
        """Refuse, answer, or relay. Logs may be followed for hours, so a relayed answer has no time limit."""
        measured = Measured(exchange.method, target.partition(b"?")[0])
        refusal = self._guard.refusal(exchange)
        if refusal is not None:
            answers.answer(exchange, *refusal)
            measured.done(refusal.status)
        elif target.startswith((CALLS, DEAD_LETTERS, QUEUES)):
            self._operation.begin(exchange)
        elif self._here.has(exchange.method, measured.route):
            self._application.begin(exchange)
        else:
            relay(
                exchange,
                self._upstream.pool,
                self._upstream.origin,
                target=target,
                dropped=_DROPPED,
                request_lines=self._credentials,
                answer_lines=_SERVED_BY,
                timeout_s=None,
                done=measured.done,
            )
