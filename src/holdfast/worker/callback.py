"""Tell a caller how its call ended: build the callback and deliver it.

The first attempt is made by the one who ran the call. When it fails, the callback is tried again on its own, with
growing pauses and without holding a slot; the function is not run again for it.

Source of the headers: OpenFaaS's documentation of asynchronous functions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

import structlog

from holdfast import __version__, telemetry
from holdfast.errors import HoldfastError, PeerError
from holdfast.headers import NOT_FORWARDED, RESERVED_IN_CALLBACK, forwardable
from holdfast.http1.client import ClientPool, Origin
from holdfast.http1.message import request_message
from holdfast.invocation import Invocation
from holdfast.settings import WorkerSettings
from holdfast.worker.outcome import Outcome
from holdfast.worker.policies import Policies

USER_AGENT = f"queue-worker/{__version__}".encode()
MOST_ANSWER_BYTES = 1024 * 1024
# A receiver's answer is read to keep its connection usable, and thrown away.
GONE = 410
# The receiver is no more: trying again would only disturb whoever has its place.
_NOT_CALLED_BACK = NOT_FORWARDED | RESERVED_IN_CALLBACK

log = structlog.get_logger()


class CallbackFailed(HoldfastError):
    """A callback was not confirmed: no answer, or one that is not 2xx.

    `final`: the receiver does not want it, now or later. `retry_after_s`: it wants to be left alone that long.
    """

    def __init__(self, message: str, *, final: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.final = final
        self.retry_after_s = retry_after_s


class Destination(NamedTuple):
    """Where a callback goes."""

    origin: Origin
    target: bytes


@lru_cache(maxsize=1024)
def destination(callback_url: str, gateway_url: str) -> Destination:
    """Read a callback URL; a path is a function of the gateway's. The URL was checked when the call was accepted."""
    url = gateway_url + callback_url if callback_url.startswith("/") else callback_url
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(Origin.parse(f"{parts.scheme}://{parts.netloc}"), target.encode("ascii"))


def callback_request(invocation: Invocation, outcome: Outcome, to: Destination, retries_allowed: int) -> bytes:
    """The callback as an HTTP/1.1 message: the function's headers and body, and what the call's headers say of it."""
    headers = [
        (b"Host", to.origin.netloc),
        (b"User-Agent", USER_AGENT),
        (b"X-Call-Id", invocation.call_id.encode()),
        (b"X-Duration-Seconds", b"%.6f" % outcome.duration_s),
        (b"X-Function-Name", invocation.function.name.encode()),
        (b"X-Function-Status", b"%d" % outcome.status),
        (b"X-Retry", b"%d" % len(invocation.attempts)),
        (b"X-Retry-Max", b"%d" % retries_allowed),
        (b"X-Start-Time", b"%d" % invocation.accepted_at_ns),
        *forwardable(outcome.headers, _NOT_CALLED_BACK),
        (b"Content-Length", b"%d" % len(outcome.body)),
    ]
    return request_message(b"POST", to.target, headers, outcome.body)


class Callbacks:
    """Delivers the callbacks of one worker."""

    def __init__(self, pool: ClientPool, settings: WorkerSettings, policies: Policies) -> None:
        self._pool = pool
        self._policies = policies
        self._delivered = telemetry.CALLBACKS.labels("delivered")
        self._timeout_s = settings.callback_timeout_s
        self._gateway = settings.gateway
        self._write_debug = settings.write_debug
        self._initial_wait_s = settings.callback_initial_wait_s
        self._max_wait_s = settings.callback_max_wait_s

    async def try_once(self, invocation: Invocation, callback_url: str, outcome: Outcome) -> None:
        """One attempt. Returns when the receiver answered 2xx; raises CallbackFailed otherwise."""
        to = destination(callback_url, self._gateway)
        request = callback_request(invocation, outcome, to, self._policies[invocation.function].attempts - 1)
        if self._write_debug:
            log.info("callback", call_id=invocation.call_id, to=callback_url, message=request)
        try:
            answer = await self._pool.fetch(
                to.origin, request, timeout_s=self._timeout_s, max_body_bytes=MOST_ANSWER_BYTES
            )
        except PeerError as error:
            raise CallbackFailed(str(error)) from error
        if not 200 <= answer.status < 300:
            raise CallbackFailed(f"the receiver answered {answer.status}", final=answer.status == GONE)
        self._delivered.inc()

    def wait_s(self, attempts: int, *, dice: float) -> float:
        """How long to wait after so many failed attempts: doubled each time, spread by up to the first pause."""
        wait_s = self._initial_wait_s * 2.0 ** min(attempts - 1, 60)
        return min(wait_s, self._max_wait_s) + dice * self._initial_wait_s
