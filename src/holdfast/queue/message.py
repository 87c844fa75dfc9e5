"""An invocation as a message of a queue's stream, and back. No I/O.

    subject   <queue>.<namespace>.<function>.<call id>     a waiting call can be found and removed by its subject
    headers   what the system needs to know without opening the request
    payload   the request itself, an HTTP/1.1 message

`Nats-Msg-Id` makes JetStream drop a second copy of one publish. It is different for every accepted call even when two
calls share a call id, as the links of a chain do: a callback carries its call's id into the next function.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from holdfast.errors import QueueError
from holdfast.function import FunctionRef
from holdfast.invocation import CallId, Invocation, is_call_id

_DIGITS = re.compile(rb"[0-9]{1,20}")


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


def subject_of(queue: str, function: FunctionRef, call_id: CallId) -> bytes:
    """Where a call stands in its queue's stream. A function's name may have dots: they would be levels, hence `_`."""
    # A deployed name is a DNS label and has neither dot nor underscore, so nothing is confused by this.
    name = function.name.replace(".", "_") if "." in function.name else function.name
    return f"{queue}.{function.namespace}.{name}.{call_id}".encode()


def to_publish(queue: str, invocation: Invocation, message_id: str) -> Publication:
    """The message of a call. HOT: 1.5 µs. `message_id` is unique per accepted call, see above."""
    ref = invocation.function
    callback = invocation.callback_url
    headers = (
        f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\nHoldfast-Call-Id: {invocation.call_id}\r\n"
        f"Holdfast-Function: {ref.name}.{ref.namespace}\r\nHoldfast-Accepted-At: {invocation.accepted_at_ns}\r\n"
    )
    # The gateway lets no control character into a callback URL, so it cannot end its line.
    headers += f"Holdfast-Callback-Url: {callback}\r\n\r\n" if callback is not None else "\r\n"
    return Publication(subject_of(queue, ref, invocation.call_id), headers.encode("ascii"), invocation.request)


def from_delivery(subject: bytes, headers: bytes, payload: bytes) -> Invocation:
    """Read a delivered message. Raises Undecodable. HOT: 2 µs."""
    fields = dict(_fields(headers))
    call_id = fields.get(b"Holdfast-Call-Id", b"")
    if not is_call_id(call_id):
        raise Undecodable(subject, f"Holdfast-Call-Id is {call_id[:80]!r}")
    accepted_at = fields.get(b"Holdfast-Accepted-At", b"")
    if _DIGITS.fullmatch(accepted_at) is None:
        raise Undecodable(subject, f"Holdfast-Accepted-At is {accepted_at[:80]!r}")
    if b"\r\n\r\n" not in payload:
        raise Undecodable(subject, "its payload is not an HTTP message")
    try:
        function = FunctionRef.parse(fields[b"Holdfast-Function"].decode("ascii"))
        callback = fields.get(b"Holdfast-Callback-Url")
        callback_url = None if callback is None else callback.decode("ascii")
    except (KeyError, UnicodeDecodeError) as error:
        raise Undecodable(subject, f"its headers cannot be read: {error}") from error
    return Invocation(CallId(call_id.decode("ascii")), function, int(accepted_at), callback_url, payload)


def _fields(headers: bytes) -> list[tuple[bytes, bytes]]:
    """The name and value of each line of a block."""
    found: list[tuple[bytes, bytes]] = []
    for line in headers.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name, value.strip()))
    return found
