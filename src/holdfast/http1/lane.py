"""What an exchange needs of the connection it came on: the seam between exchange.py and connection.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from holdfast.http1.framing import Refusal
from holdfast.http1.limits import Limits

if TYPE_CHECKING:
    from holdfast.http1.exchange import Exchange


class Lane(Protocol):
    """What an exchange needs of its connection."""

    client_host: str
    limits: Limits
    loop: asyncio.AbstractEventLoop
    reading: bool
    proven: bool
    """Whether an answer on this connection says who answers."""

    @property
    def date(self) -> bytes:
        """The current `Date` header line."""

    def write(self, data: bytes) -> bool:
        """Send bytes; False when the socket does not take them as fast as they come."""

    def body_wanted(self, exchange: Exchange) -> None:
        """The application has said what becomes of the body: read on."""

    def pause_body(self, exchange: Exchange) -> None:
        """Read no more for now."""

    def deliver(self, exchange: Exchange) -> None:
        """Hand a collected body over."""

    def if_still_there(self, exchange: Exchange, run: Callable[[], None]) -> None:
        """Call `run` once all is read that has come, if the client has not left."""

    def may_drain(self, exchange: Exchange) -> bool:
        """Whether the rest of an unwanted body is so short that the connection can be kept."""

    def hold(self, size: int) -> bool:
        """Keep so many bytes of a body in memory; False: all connections together keep as much as they may."""

    def let_go(self, size: int) -> None:
        """What was held is not kept any more."""

    def answer_finished(self, exchange: Exchange) -> None:
        """The answer is complete."""

    def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """Answer in the application's place and close."""

    def abort(self, exchange: Exchange) -> None:
        """Close without finishing."""
