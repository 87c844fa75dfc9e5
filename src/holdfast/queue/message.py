"""An invocation as a message of a queue's stream, and back. No I/O.

    <queue>.call.<namespace>.<function>.<call id>                   a call that can run now
    <queue>.lane.<namespace>.<function>.<call id>                   the same, in the lane of its function
    <queue>.lane.@<provider>.<namespace>.<function>.<call id>       the same, of a provider that shares its queue
    <queue>.later.<namespace>.<function>.<call id>.<message id>     one that waits for its time: a delay or a retry

    headers   what the system needs to know without opening the request
    payload   the request itself, an HTTP/1.1 message

So a call can be found and removed by its subject, without an index. The queue's consumer takes `call` only, and each
lane has a consumer of its own; JetStream publishes what stands under `later` to its `call` subject when its time has
come (`Nats-Schedule`). A later subject holds one message, hence the message id in it.

`Nats-Msg-Id` makes JetStream drop a second copy of one publish. It is different for every accepted call, also of calls
that version 0.1 accepted under one call id. `Holdfast-Chain-Id` is the `X-Call-Id` of a chain, where it is not the
call's own id.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from holdfast.errors import QueueError
from holdfast.function import ROUTE_NAME, FunctionRef
from holdfast.invocation import Attempt, CallId, Invocation, StoredBody, is_call_id, is_provider_id

_ROUTE_NAME = re.compile(ROUTE_NAME)
_DIGITS = re.compile(rb"[0-9]{1,20}")
_AS_WRITTEN = re.compile(
    rb"NATS/1\.0\r\n(?:Nats-Batch-Id: [!-~]+\r\nNats-Batch-Sequence: [0-9]+\r\n(?:Nats-Batch-Commit: 1\r\n)?)?"
    rb"Nats-Msg-Id: [!-~]+\r\n"
    rb"Holdfast-Call-Id: ([A-Za-z0-9_-]{1,128})\r\nHoldfast-Message-Id: ([!-~]+)\r\n"
    rb"Holdfast-Function: ([-a-zA-Z_0-9.]+)\r\nHoldfast-Accepted-At: ([0-9]{1,20})\r\n"
    rb"(?:Holdfast-Callback-Url: ([!-~]+)\r\n)?(?:Holdfast-Provider: ([A-Za-z0-9_-]{1,64})\r\n)?"
    rb"(?:Holdfast-Chain-Id: ([A-Za-z0-9_-]{1,128})\r\n)?\r\n"
)
# What `to_publish` writes for a call without options, alone or in a batch. Read at once, it costs a third of line by
# line.


_NO_OPTIONS = ((), None, None, None, 0, None)
# From `attempts` to `body` of an invocation without any.
_REPLAYED = "/again/"


class Undecodable(QueueError):
    """A message of a queue's stream is not an invocation: it can never be run. `subject` says where it stood."""

    def __init__(self, subject: bytes, reason: str) -> None:
        super().__init__(f"the message under {subject.decode('utf-8', 'replace')} is not a call: {reason}")
        self.subject = subject
        self.reason = reason


class Publication(NamedTuple):
    """What is published: subject, header block, payload."""

    subject: bytes
    headers: bytes
    payload: bytes


def subject_of(queue: str, function: FunctionRef, call_id: CallId, place: str = "call") -> bytes:
    """Where a call that can run stands in its queue's stream: in the one line of all, or in its function's `lane`."""
    return f"{queue}.{place}.{function_words(function)}.{call_id}".encode()


def place_of_provider(provider: str) -> str:
    """Where calls of a provider stand in a queue that several share; `@` begins no namespace."""
    return f"lane.@{provider}"


def function_words(function: FunctionRef) -> str:
    """The part of a function's subjects that names it: `<namespace>.<function>`."""
    # A deployed name is a DNS label and has neither dot nor underscore, so nothing is confused by this.
    name = function.name.replace(".", "_") if "." in function.name else function.name
    return f"{function.namespace}.{name}"


def later_subject_of(queue: str, function: FunctionRef, call_id: CallId, message_id: str) -> bytes:
    """Where a call stands that waits for its time."""
    return f"{queue}.later.{function_words(function)}.{call_id}.{message_id}".encode()


def subjects_of_call(queue: str, call_id: CallId) -> tuple[bytes, ...]:
    """Patterns that find a call whatever its function: one that waits for its time, or can run, here or in a lane.

    The last is that of the lanes of providers.

    In the order in which a call moves: whoever looks in turn does not miss one that moves meanwhile.
    """
    return (
        f"{queue}.later.*.*.{call_id}.*".encode(),
        f"{queue}.call.*.*.{call_id}".encode(),
        f"{queue}.lane.*.*.{call_id}".encode(),
        f"{queue}.lane.*.*.*.{call_id}".encode(),
    )


def to_publish(queue: str, invocation: Invocation, place: str = "call") -> Publication:
    """The message of a call that can run at once; `place` is `call`, or `lane` when its function has one. HOT: 2 µs."""
    call_id, message_id, ref, accepted_at_ns, callback_url, request = invocation[:6]
    if invocation[6:12] == _NO_OPTIONS and not invocation.refused_by and invocation.chain_id is None:
        # `fields_of` for nearly all calls, without asking for what they do not have: it costs half.
        url = "" if callback_url is None else f"Holdfast-Callback-Url: {callback_url}\r\n"
        provider = f"Holdfast-Provider: {invocation.provider}\r\n" if invocation.provider else ""
        fields = (
            f"Holdfast-Call-Id: {call_id}\r\nHoldfast-Message-Id: {message_id}\r\n"
            f"Holdfast-Function: {ref.name}.{ref.namespace}\r\nHoldfast-Accepted-At: {accepted_at_ns}\r\n"
            f"{url}{provider}"
        )
    else:
        fields = fields_of(invocation)
    headers = f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\n{fields}\r\n"
    return Publication(subject_of(queue, ref, call_id, place), headers.encode("ascii"), request)


def to_move_into_lane(queue: str, invocation: Invocation) -> Publication:
    """The message of a call that leaves the queue's line for its function's lane; moved twice, it is there once."""
    message_id = f"{invocation.message_id}/{len(invocation.attempts)}/lane"
    headers = f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\n{fields_of(invocation)}\r\n"
    subject = subject_of(queue, invocation.function, invocation.call_id, "lane")
    return Publication(subject, headers.encode("ascii"), invocation.request)


def to_move_to_provider(queue: str, invocation: Invocation) -> Publication:
    """The message of a call that leaves the line for the lane of its provider; moved twice, it is there once."""
    asked, runs = len(invocation.refused_by), len(invocation.attempts)
    message_id = f"{invocation.message_id}/{runs}/at/{invocation.provider}/{asked}"
    headers = f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\n{fields_of(invocation)}\r\n"
    place = place_of_provider(invocation.provider)
    subject = subject_of(queue, invocation.function, invocation.call_id, place)
    return Publication(subject, headers.encode("ascii"), invocation.request)


def to_publish_later(queue: str, invocation: Invocation, at: datetime) -> Publication:
    """The message of a call that can run from `at` on, aware and in UTC."""
    ref, call_id = invocation.function, invocation.call_id
    # Each retry is a message of its own; the same retry, published twice, is not.
    message_id = f"{invocation.message_id}/{len(invocation.attempts)}"
    headers = (
        f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\nNats-Schedule: @at {at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}\r\n"
        f"Nats-Schedule-Target: {subject_of(queue, ref, call_id).decode()}\r\n{fields_of(invocation)}\r\n"
    )
    subject = later_subject_of(queue, ref, call_id, invocation.message_id)
    return Publication(subject, headers.encode("ascii"), invocation.request)


def replayed(invocation: Invocation, died_at_ns: int) -> Invocation:
    """The call as it is put into a queue again after it failed for good: as one that was never run.

    Another message, or JetStream would take it for the one it has seen; the same for the same failure, so that a replay
    that is sent twice is one. It had begun in the time that its caller gave it, so that time is not asked for again.
    """
    message_id = f"{original_of(invocation.message_id)}{_REPLAYED}{died_at_ns}"
    return invocation._replace(message_id=message_id, attempts=(), expires_at_ns=None)


def replay_of(message_id: str) -> int | None:
    """When the call died whose replay has this message id, in Unix nanoseconds; None: it is that of no replay."""
    _, again, died_at = message_id.partition(_REPLAYED)
    return int(died_at) if again and died_at.isdigit() else None


def original_of(message_id: str) -> str:
    """The message id that a call was accepted with, whether or not it was replayed since."""
    return message_id.partition(_REPLAYED)[0]


def generation_of(message_id: str) -> int:
    """Which life of a call a message id stands for: 0 as accepted; of a replay, when the life before it ended."""
    died_at_ns = message_id.partition(_REPLAYED)[2]
    return int(died_at_ns) if died_at_ns.isdecimal() else 0


def was_replayed(message_id: str) -> bool:
    """Whether a call was put into its queue again after it had failed for good."""
    return _REPLAYED in message_id


def recorded_message_id(call_id: CallId, suffix: str) -> str:
    """The message id of a call whose record is written before it is published, which `was_recorded` tells by it."""
    return f"{call_id}-{suffix}"


def was_recorded(invocation: Invocation) -> bool:
    """Whether a call has had a record since before its first run. HOT: 0.1 µs.

    It came with a key, or with an id of its caller's, or is replayed.
    """
    call_id, message_id = invocation.call_id, invocation.message_id
    return message_id != call_id and (message_id.startswith(call_id) or _REPLAYED in message_id)


def was_scheduled(headers: bytes) -> bool:
    """Whether a message waited for its time, and NATS has moved it here: it says by which one. HOT: 0.1 µs."""
    return b"Nats-Scheduler:" in headers


def was_moved_into_lane(headers: bytes) -> bool:
    """Whether a message in a lane stood in the line before. HOT: 0.1 µs."""
    return b"/lane\r\n" in headers


def fields_of(invocation: Invocation) -> str:
    """The header lines that say what a call is, for every message that is about one."""
    ref = invocation.function
    fields = (
        f"Holdfast-Call-Id: {invocation.call_id}\r\nHoldfast-Message-Id: {invocation.message_id}\r\n"
        f"Holdfast-Function: {ref.name}.{ref.namespace}\r\nHoldfast-Accepted-At: {invocation.accepted_at_ns}\r\n"
    )
    # The gateway lets no control character into a URL, so it cannot end its line.
    if invocation.callback_url is not None:
        fields += f"Holdfast-Callback-Url: {invocation.callback_url}\r\n"
    if invocation.provider:
        fields += f"Holdfast-Provider: {invocation.provider}\r\n"
    if invocation.refused_by:
        fields += f"Holdfast-Refused-By: {','.join(invocation.refused_by)}\r\n"
    if invocation.chain_id is not None:
        fields += f"Holdfast-Chain-Id: {invocation.chain_id}\r\n"
    if invocation.failure_callback_url is not None:
        fields += f"Holdfast-Failure-Callback-Url: {invocation.failure_callback_url}\r\n"
    if invocation.timeout_s is not None:
        fields += f"Holdfast-Timeout: {invocation.timeout_s!r}\r\n"
    if invocation.expires_at_ns is not None:
        fields += f"Holdfast-Expires-At: {invocation.expires_at_ns}\r\n"
    if invocation.depth:
        fields += f"Holdfast-Depth: {invocation.depth}\r\n"
    if invocation.body is not None:
        fields += f"Holdfast-Body: {invocation.body}\r\n"
    if invocation.attempts:
        # JSON in ASCII has no line end.
        fields += f"Holdfast-Attempts: {json.dumps(invocation.attempts, separators=(',', ':'))}\r\n"
    return fields


def from_delivery(subject: bytes, headers: bytes, payload: bytes) -> Invocation:
    """Read a delivered message. Raises Undecodable. HOT: 1 µs."""
    usual = _AS_WRITTEN.fullmatch(headers)
    if usual is None or b"\r\n\r\n" not in payload:
        return _read_line_by_line(subject, headers, payload)
    call_id, message_id, function, accepted_at, callback_url, provider, chain_id = usual.groups()
    # By position: names cost a third more.
    return Invocation(
        CallId(call_id.decode()),
        message_id.decode(),
        _function(function),
        int(accepted_at),
        None if callback_url is None else callback_url.decode(),
        payload,
        *_NO_OPTIONS,
        "" if provider is None else provider.decode(),
        (),
        None if chain_id is None else CallId(chain_id.decode()),
    )


@lru_cache(maxsize=4096)
def _function(word: bytes) -> FunctionRef:
    text = word.decode("ascii")
    if _ROUTE_NAME.fullmatch(text) is None:
        raise ValueError(f"{text[:80]!r} is not a function's name")
    return FunctionRef.parse(text)


def _read_line_by_line(subject: bytes, headers: bytes, payload: bytes) -> Invocation:
    fields = dict(_lines(headers))
    call_id = fields.get(b"Holdfast-Call-Id", b"")
    if not is_call_id(call_id):
        raise Undecodable(subject, f"Holdfast-Call-Id is {call_id[:80]!r}")
    accepted_at = fields.get(b"Holdfast-Accepted-At", b"")
    if _DIGITS.fullmatch(accepted_at) is None:
        raise Undecodable(subject, f"Holdfast-Accepted-At is {accepted_at[:80]!r}")
    function = fields.get(b"Holdfast-Function", b"")
    if not function:
        raise Undecodable(subject, f"Holdfast-Function is {function[:80]!r}")
    if b"\r\n\r\n" not in payload:
        raise Undecodable(subject, "its payload is not an HTTP message")
    chain_id = fields.get(b"Holdfast-Chain-Id")
    if chain_id is not None and not is_call_id(chain_id):
        raise Undecodable(subject, f"Holdfast-Chain-Id is {chain_id[:80]!r}")
    timeout = fields.get(b"Holdfast-Timeout")
    expires_at = fields.get(b"Holdfast-Expires-At")
    try:
        return Invocation(
            CallId(call_id.decode("ascii")),
            fields[b"Holdfast-Message-Id"].decode("ascii"),
            _function(function),
            int(accepted_at),
            _text(fields, b"Holdfast-Callback-Url"),
            payload,
            attempts=tuple(Attempt.read(attempt) for attempt in json.loads(fields.get(b"Holdfast-Attempts", b"[]"))),
            failure_callback_url=_text(fields, b"Holdfast-Failure-Callback-Url"),
            timeout_s=None if timeout is None else _seconds(timeout),
            expires_at_ns=None if expires_at is None else int(expires_at),
            depth=int(fields.get(b"Holdfast-Depth", b"0")),
            body=_body(fields),
            provider="".join(_providers(fields, b"Holdfast-Provider")[:1]),
            refused_by=_providers(fields, b"Holdfast-Refused-By"),
            chain_id=None if chain_id is None else CallId(chain_id.decode("ascii")),
        )
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise Undecodable(subject, f"its headers cannot be read: {error}") from error


def _seconds(value: bytes) -> float:
    seconds = float(value)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{seconds} is not a duration")
    return seconds


def _body(fields: dict[bytes, bytes]) -> StoredBody | None:
    text = _text(fields, b"Holdfast-Body")
    return None if text is None else StoredBody.parse(text)


def _providers(fields: dict[bytes, bytes], name: bytes) -> tuple[str, ...]:
    """The providers that a header lists; they become words of subjects."""
    text = _text(fields, name)
    found = tuple(text.split(",")) if text else ()
    if not all(map(is_provider_id, found)):
        raise ValueError(f"{name.decode()} is {str(text)[:80]!r}")
    return found


def _text(fields: dict[bytes, bytes], name: bytes) -> str | None:
    value = fields.get(name)
    return None if value is None else value.decode("ascii")


def _lines(headers: bytes) -> list[tuple[bytes, bytes]]:
    """The name and value of each line of a block."""
    found: list[tuple[bytes, bytes]] = []
    for line in headers.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name, value.strip()))
    return found
