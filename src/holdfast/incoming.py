"""What has come in a connected socket and is not read yet, for transports of asyncio and uvloop alike.

A process that stood still, or took over a listening socket, finds requests whose sender has left long ago, with the end
of the connection behind them. Whoever is about to act on a request looks here first. A look is a system call, a micro-
second or two of a process that does little else, so it is left out where the answer is known: what comes in a socket
from which a request was taken a moment ago cannot have lain there for long.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import sys
import termios

FRESH_S = 0.1
# So short a time nobody relies on: a cancel that a replica does not confirm is waited for longer (worker/attempt.py).

# Not every system tells of an end that lies behind bytes; elsewhere it is seen once those are read.
_ENDED = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)


class Incoming:
    """The receiving side of one socket. Ask nothing once its transport is closed: the descriptor may be another's."""

    __slots__ = ("_descriptor", "_poll")

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._descriptor: int = transport.get_extra_info("socket").fileno()
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN | _ENDED)

    def look(self) -> int | None:
        """How many bytes wait to be read; None: the other side has ended its sending.

        Over TCP nobody can tell a side that has closed from one that only sends no more: both have sent a FIN.
        """
        events = self._poll.poll(0)
        if not events:
            return 0
        if events[0][1] & _ENDED:
            return None
        count = bytearray(4)
        fcntl.ioctl(self._descriptor, termios.FIONREAD, count)
        return int.from_bytes(count, sys.byteorder)
