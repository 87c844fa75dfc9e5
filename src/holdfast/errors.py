"""Everything that Holdfast raises on purpose.

    HoldfastError
    ├── SettingError         a setting cannot be used
    ├── BadRequest           a caller's request cannot be accepted; carries the HTTP status to answer
    ├── QueueError           the queue could not do what was asked
    │   ├── QueueUnavailable     not connected, or no answer in time
    │   └── QueueRefused         JetStream answered with an error
    ├── PeerError            an HTTP peer (function, callback receiver, provider) gave no usable answer
    │   ├── ConnectFailed        no connection could be made: the request was not sent
    │   │   └── AddressRefused       the peer is where nothing may be sent
    │   ├── WrongPeer            another program answered than the one that was meant
    │   ├── ConnectionLost       the connection ended early: the request may have been carried out
    │   ├── AnswerTimedOut       no complete answer in time
    │   ├── AnswerTooLarge       the answer is larger than the limit
    │   └── AnswerMalformed      the peer does not speak HTTP/1.1
    ├── DeploymentError      a function cannot be deployed as described
    └── StartError           a part or process could not be started

Messages say what could not be done, to what, what was seen and what would work. What a program may want to look at is
an attribute as well. Errors of foreign libraries are mapped to these in the module that talks to the library.
"""

from __future__ import annotations


class HoldfastError(Exception):
    """The root of all errors that are part of Holdfast's interface."""


class SettingError(HoldfastError):
    """A setting cannot be used. Raised while settings are read, before anything starts."""

    def __init__(self, name: str, value: str, expected: str) -> None:
        super().__init__(f"{name}={value!r} cannot be used: expected {expected}")
        self.name = name
        self.value = value
        self.expected = expected


class BadRequest(HoldfastError):
    """A request that is refused. `status` is the HTTP status, the message is the body of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class QueueError(HoldfastError):
    """The queue could not do what was asked."""

    perhaps_stored = False
    """Whether what was published may be stored all the same: it was sent, and nobody said what became of it."""


class QueueUnavailable(QueueError):
    """The queue is not connected or did not answer in time. What was published may or may not be stored."""

    perhaps_stored = True


class NotSent(QueueUnavailable):
    """The queue takes nothing at this moment, and nothing was sent."""

    perhaps_stored = False


_UNAVAILABLE = 503
_NO_STORAGE = 10047
# JetStream's err_code when its storage is full, which has the code 500.


class QueueRefused(QueueError):
    """JetStream answered with an error: nothing was stored, unless an earlier try was not answered.

    `code` is the HTTP-like status, `err_code` JetStream's own number (10077: the stream is full).
    """

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"JetStream refused: {description} (code {code}, err_code {err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description

    @property
    def may_pass(self) -> bool:
        """Whether the same may be taken later: no stream is there to take it, or no room for it."""
        return self.code == _UNAVAILABLE or self.err_code == _NO_STORAGE


class PeerError(HoldfastError):
    """An HTTP peer gave no usable answer. `origin` names the peer as `http://host:port`."""

    def __init__(self, origin: str, message: str) -> None:
        super().__init__(message)
        self.origin = origin


class ConnectFailed(PeerError):
    """No connection could be made, so the request was certainly not carried out."""


class AddressRefused(ConnectFailed):
    """The peer is where nothing may be sent: no connection was tried, and trying again would not change that."""

    def __init__(self, origin: str, reason: str) -> None:
        super().__init__(origin, f"{origin} may not be called: {reason}")
        self.reason = reason


class WrongPeer(PeerError):
    """Whoever answered is not the instance that was meant: that one has not seen the request."""


class ConnectionLost(PeerError):
    """The connection ended before the answer was complete: the request may have been carried out."""


class AnswerTimedOut(PeerError):
    """The peer did not answer completely in time. `timeout_s` is the limit that passed."""

    def __init__(self, origin: str, timeout_s: float) -> None:
        super().__init__(origin, f"{origin} did not answer within {timeout_s:g} s")
        self.timeout_s = timeout_s


class AnswerTooLarge(PeerError):
    """The answer's body is larger than `limit` bytes; the connection was closed."""

    def __init__(self, origin: str, limit: int) -> None:
        super().__init__(origin, f"the answer of {origin} is larger than {limit} bytes")
        self.limit = limit


class AnswerMalformed(PeerError):
    """The peer's bytes are not an HTTP/1.1 answer."""


class DeploymentError(HoldfastError):
    """A function cannot be deployed as described. `function` is its name as far as it is known."""

    def __init__(self, function: str, message: str) -> None:
        super().__init__(f"{function}: {message}" if function else message)
        self.function = function


class StartError(HoldfastError):
    """A part or a process could not be started; the message says what to change."""
