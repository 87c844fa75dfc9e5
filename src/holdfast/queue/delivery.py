"""A message that was handed out, and what is remembered of messages that have ended. No I/O.

When deliveries are asked for, renewed and settled is left to `consumer`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from holdfast.queue.wire import Msg


class Receipt(NamedTuple):
    """What JetStream's reply subject tells of a delivery."""

    key: bytes
    """Names the message for good: sequence and time. When a stream was deleted and made again, the same sequence is
    another message."""
    sequence: int
    """Its place in the stream."""
    delivered: int
    """How often it was delivered, this time included."""
    behind: int
    """How many more of its consumer waited when it was handed out."""


def is_delivery(message: Msg) -> bool:
    """Whether it is a stream's message, not a status of a pull."""
    return message.reply.startswith(b"$JS.ACK.")


def read_receipt(reply: bytes) -> Receipt:
    """Read a delivery's reply subject. HOT.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time ns>.<pending>`; with domain and account
    there are two more words after `$JS.ACK`, and one more may end it (NATS ADR-15).
    """
    words = reply.split(b".")
    at = 4 if len(words) == 9 else 6
    sequence = words[at + 1]
    return Receipt(b"%b@%b" % (sequence, words[at + 3]), int(sequence), int(words[at]), int(words[at + 4]))


class Delivery:
    """A message handed out, to be settled once by ack, nak or term; a second settlement does nothing."""

    __slots__ = (
        *("_settle", "behind", "delivered", "doubtful", "headers", "key"),
        *("payload", "reply", "sequence", "subject"),
    )

    def __init__(
        self, message: Msg, receipt: Receipt, settle: Callable[[Delivery, bytes], None], *, doubtful: bool = False
    ) -> None:
        self.doubtful = doubtful
        """Somebody may have had it before, and may have acknowledged it: it was delivered already, or it was stored
        before the consumer got ready, and a server that was killed may have forgotten. Records tell then."""
        self._settle = settle
        self.subject = message.subject
        self.headers = message.headers
        self.payload = message.payload
        self.reply = message.reply
        """Where settlements go; empty when the stream is not there any more. The consumer keeps it current."""
        self.key, self.sequence, self.delivered, self.behind = receipt

    def ack(self) -> None:
        """The call has ended: the message leaves the queue and is not run again."""
        self._settle(self, b"+ACK")

    def nak(self) -> None:
        """Hand it back: it is delivered again at once, to whoever asks."""
        self._settle(self, b"-NAK")

    def term(self, reason: str) -> None:
        """The message leaves the queue because it can never be run."""
        self._settle(self, b"+TERM " + reason.encode())


class Memory:
    """The keys of the last `size` to `2 * size` messages that have ended.

    Two sets take turns: a dict that drops its oldest entry searches past all the dropped ones each time.
    """

    __slots__ = ("_new", "_old", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._new: set[bytes] = set()
        self._old: set[bytes] = set()

    def add(self, key: bytes) -> None:
        """Remember a message. HOT."""
        self._new.add(key)
        if len(self._new) >= self._size:
            self._old, self._new = self._new, set()

    def __contains__(self, key: bytes) -> bool:
        return key in self._new or key in self._old
