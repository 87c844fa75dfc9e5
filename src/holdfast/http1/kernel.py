"""What only the kernel knows of a socket, or does with it, for transports of asyncio and uvloop alike."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios


def unacknowledged(transport: asyncio.Transport) -> int:
    """How many bytes the kernel still holds for the other side.

    A reader's progress shows here byte by byte, while the kernel takes more from us only in steps of a megabyte or so.
    """
    sock = transport.get_extra_info("socket")
    count = bytearray(4)
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
    except (AttributeError, OSError):
        return 0  # closed, or a system that cannot tell
    return int.from_bytes(count, sys.byteorder)


def reset(transport: asyncio.Transport) -> None:
    """Close at once with a reset, which the other side cannot take for an orderly end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
