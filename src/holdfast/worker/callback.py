"""Tell a caller how its call ended: build the callback and make one attempt to deliver it.

Whether a receiver may be asked now is receivers.py's; when an attempt is made, and what becomes of a callback that was
not confirmed, is first_attempt.py's and callback_queue.py's. The function is not run again for it.

Source of the headers: OpenFaaS's documentation of asynchronous functions.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

import structlog

from holdfast import __version__, telemetry
from holdfast.callback_guard import names_function
from holdfast.errors import AddressRefused, AnswerMalformed, HoldfastError, PeerError
from holdfast.headers import CALLED_BACK, DEPTH, NOT_FORWARDED, RESERVED_IN_CALLBACK, RawHeaders
from holdfast.http1.client import Answer, ClientPool, Origin
from holdfast.http1.message import forwarded_lines, header_lines, request_start
from holdfast.invocation import Invocation, StoredBody
from holdfast.queue.bodies import BodyGone
from holdfast.settings import WorkerSettings
from holdfast.tally import Tally
from holdfast.worker.body import Sender
from holdfast.worker.insist import insist
from holdfast.worker.outcome import Outcome
from holdfast.worker.policies import Policies
from holdfast.worker.receivers import Receiver, Receivers
from holdfast.worker.retry import retry_after_s
from holdfast.worker.signature import Signer, delivery_headers
from holdfast.worker.signing_secrets import SigningSecrets

USER_AGENT = f"queue-worker/{__version__}".encode()
MOST_ANSWER_BYTES = 1024 * 1024
# A receiver's answer is read to keep its connection usable, and thrown away.
SLOWEST_BYTES_PER_S = 1024 * 1024
# A large callback has `callback_timeout` and a second for each MiB of its body.
LEAST_TIME_S = 600.0
# A callback whose receiver is down is not given up before, however few attempts it has.
FINAL = frozenset({410, 508})
# Gone: the receiver is no more, trying again would only disturb whoever has its place. Loop Detected: a gateway's word
# for a chain of callbacks that is too long, which the next attempt would not shorten.
_NOT_CALLED_BACK = NOT_FORWARDED | RESERVED_IN_CALLBACK

log = structlog.get_logger()


class CallbackFailed(HoldfastError):
    """A callback was not confirmed: no answer, or one that is not 2xx.

    `final`: the receiver does not want it, now or later. `retry_after_s`: it wants to be left alone that long.
    """

    def __init__(self, message: str, *, final: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.final = final
        self.retry_after_s = retry_after_s


class Destination(NamedTuple):
    """Where a callback goes."""

    origin: Origin
    target: bytes
    start: bytes
    """Of each request that goes there: the request line and the lines that are always the same."""
    own: bool
    """Whether it is a function of the gateway's: allowed wherever the gateway listens."""
    receiver: str
    """Who takes it, for fair shares: the origin, or of the gateway's functions each for itself."""


@lru_cache(maxsize=1024)
def destination(callback_url: str, gateway_url: str) -> Destination:
    """Read a callback URL; a path is a function of the gateway's. Raises ValueError for what is none.

    The gateway has checked it when it accepted the call; but it comes from a stream, where others may write.
    """
    if any(character <= " " or character == "\x7f" for character in callback_url) or not callback_url.isascii():
        raise ValueError("there is a space or a character in it that no URL has")
    if callback_url.startswith("/") and not names_function(callback_url):
        raise ValueError("it is the path of no function")
    url = gateway_url + callback_url if callback_url.startswith("/") else callback_url
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    origin = Origin.parse(f"{parts.scheme}://{parts.netloc}")
    own = origin == Origin.parse(gateway_url) and names_function(target)
    target_bytes = target.encode("ascii")
    lines = [(b"Host", origin.netloc), (b"User-Agent", USER_AGENT)]
    if not own:
        # A replica's port is nobody's to know here; its watchdog knows by this that the gateway was gone round.
        lines.append((CALLED_BACK, b"1"))
    start = request_start(b"POST", target_bytes, lines)
    receiver = "/".join(parts.path.split("/", 3)[:3]) if own else str(origin)
    return Destination(origin, target_bytes, start, own, receiver)


def callback_request(
    invocation: Invocation, outcome: Outcome, to: Destination, retries_allowed: int, *, delivery: RawHeaders
) -> bytes:
    """The callback as an HTTP/1.1 message: the function's headers and body, and what the call's headers say of it. HOT.

    `delivery` are the headers that name and sign it. When the body is stored elsewhere the message ends with its head.
    """
    # What is not checked for line ends are numbers, an id and a name: no line ends in their alphabets. The depth is for
    # every receiver: a gateway may be called by another name than the one it is known by here.
    return _CALLBACK % (
        to.start,
        invocation.common_id.encode(),
        outcome.duration_s,
        invocation.function.name.encode(),
        outcome.status,
        len(invocation.attempts),
        retries_allowed,
        invocation.accepted_at_ns,
        invocation.depth,
        forwarded_lines(outcome.headers, _NOT_CALLED_BACK),
        header_lines(delivery),
        outcome.size,
        outcome.body,
    )


_CALLBACK = (
    b"%bX-Call-Id: %b\r\nX-Duration-Seconds: %.6f\r\nX-Function-Name: %b\r\nX-Function-Status: %d\r\n"
    b"X-Retry: %d\r\nX-Retry-Max: %d\r\nX-Start-Time: %d\r\n" + DEPTH + b": %d\r\n"
    b"%b%bContent-Length: %d\r\n\r\n%b"
)


def _answered(error: PeerError) -> bool | None:
    """Whether a receiver said anything, though no answer came of it; None: it was not asked."""
    return None if isinstance(error, AddressRefused) else isinstance(error, AnswerMalformed)


class Callbacks:
    """Delivers the callbacks of one worker: to functions through `inside`, to all others through `outside`.

    Two pools, so that no callback is sent on a connection that was made to a function's replica without a look at its
    address.
    """

    def __init__(
        self,
        *,
        inside: ClientPool,
        outside: ClientPool,
        secrets: SigningSecrets | None,
        settings: WorkerSettings,
        policies: Policies,
        sender: Sender,
    ) -> None:
        self.receivers = Receivers(settings.callback_inflight)
        self._inside = inside
        self._outside = outside
        self._secrets = secrets
        self._policies = policies
        self._sender = sender
        self._delivered = Tally(telemetry.CALLBACKS.labels("delivered").inc)
        self._timeout_s = settings.callback_timeout_s
        self._gateway = settings.gateway
        self._write_debug = settings.write_debug
        self._attempts = settings.callback_attempts
        self._initial_wait_s = settings.callback_initial_wait_s
        self._max_wait_s = settings.callback_max_wait_s
        pauses = (self._pause_s(attempt) for attempt in range(1, self._attempts))
        self._lasts_s = max(LEAST_TIME_S, sum(pauses) + self._attempts * self._timeout_s)

    def destination(self, url: str) -> Destination:
        """Where a callback goes. Raises CallbackFailed for what is no URL. HOT: a look-up."""
        try:
            return destination(url, self._gateway)
        except ValueError as error:
            raise CallbackFailed(f"{url[:200]!r} cannot be called back: {error}", final=True) from error

    async def attempt(self, invocation: Invocation, to: Destination, outcome: Outcome, receiver: Receiver) -> None:
        """One attempt, for which a place with the receiver was taken; it is given back here, or soon after.

        Returns when the receiver answered 2xx; else raises CallbackFailed. The answer counts once its head is read; the
        place is given back once it has been read to its end, or to its limits.
        """
        try:
            if outcome.stored is None:
                answer = await self._post(invocation, outcome, to, receiver)
            else:
                answer = await self._post_stored(invocation, outcome, outcome.stored, to, receiver)
        except (AddressRefused, BodyGone) as error:
            raise CallbackFailed(str(error), final=True) from error
        except PeerError as error:
            raise CallbackFailed(str(error)) from error
        if not 200 <= answer.status < 300:
            raise CallbackFailed(
                f"the receiver answered {answer.status}",
                final=answer.status in FINAL,
                retry_after_s=min(retry_after_s(answer.headers, datetime.now(UTC)) or 0.0, self._max_wait_s),
            )
        self._delivered.add()

    def _post(self, invocation: Invocation, outcome: Outcome, to: Destination, receiver: Receiver) -> Awaitable[Answer]:
        try:
            delivery = delivery_headers(self._keys(), invocation.message_id, int(time.time()), outcome.body)
            request = self._request(invocation, outcome, to, delivery)
        except BaseException:
            self.receivers.ended(receiver, answered=None)
            raise

        def over(error: PeerError | None) -> None:
            self.receivers.ended(receiver, answered=error is None or _answered(error), error=error)

        return (self._inside if to.own else self._outside).fetch_head(
            to.origin,
            request,
            timeout_s=self._timeout_s,
            max_body_bytes=MOST_ANSWER_BYTES,
            on_over=over,
        )

    async def _post_stored(
        self, invocation: Invocation, outcome: Outcome, stored: StoredBody, to: Destination, receiver: Receiver
    ) -> Answer:
        answered: bool | None = None
        failure: PeerError | None = None
        try:
            delivery = await self._sign_stored(Signer(self._keys(), invocation.message_id, int(time.time())), stored)
            answer = await self._sender.post(
                self._inside if to.own else self._outside,
                to.origin,
                self._request(invocation, outcome, to, delivery),
                stored,
                timeout_s=self.limit_s(outcome),
                max_answer_bytes=MOST_ANSWER_BYTES,
            )
            answered = True
        except PeerError as error:
            answered, failure = _answered(error), error
            raise
        finally:
            self.receivers.ended(receiver, answered=answered, error=failure)
        return answer

    def _keys(self) -> tuple[bytes, ...]:
        return self._secrets.keys if self._secrets is not None else ()

    def _request(self, invocation: Invocation, outcome: Outcome, to: Destination, delivery: RawHeaders) -> bytes:
        retries_allowed = self._policies[invocation.function].attempts - 1
        request = callback_request(invocation, outcome, to, retries_allowed, delivery=delivery)
        if self._write_debug:
            log.info("callback", call_id=invocation.call_id, to=str(to.origin), message=request)
        return request

    def limit_s(self, outcome: Outcome) -> float:
        """How long an attempt may take."""
        return self._timeout_s if outcome.stored is None else self._timeout_s + outcome.size / SLOWEST_BYTES_PER_S

    async def _sign_stored(self, signer: Signer, body: StoredBody) -> RawHeaders:
        """The signature stands before the body: a large one is read twice rather than held."""
        if signer.signs:
            async for piece in self._sender.bodies.read(body, insist):
                signer.update(piece)
        return signer.headers()

    def gives_up(self, attempts: int, error: CallbackFailed) -> bool:
        """Whether a callback that failed so many times, the last time like this, is not tried again."""
        return error.final or attempts >= self._attempts

    def is_too_late(self, first_at_ns: int) -> bool:
        """Whether a callback that had to wait for its receiver has waited as long as all its attempts would take."""
        return time.time_ns() - first_at_ns > self._lasts_s * 1e9

    def wait_s(self, attempts: int, error: CallbackFailed, *, dice: float) -> float:
        """How long to wait after so many failed attempts: doubled each time, spread by up to the first pause.

        A receiver that asks for more time gets it, up to `callback_max_wait`.
        """
        return max(self._pause_s(attempts) + dice * self._initial_wait_s, error.retry_after_s)

    def _pause_s(self, attempts: int) -> float:
        return min(self._initial_wait_s * 2.0 ** min(attempts - 1, 60), self._max_wait_s)
