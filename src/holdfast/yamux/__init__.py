"""Many connections over one socket: sessions and streams of yamux, version 0, as transports and protocols of asyncio.

Between two processes of one machine a message that fits in one read costs more in the kernel, and in the event loop,
than what is done with it. Streams share a socket: all that a turn of the loop writes to them leaves in one write, and
arrives in one read, by which the other side is woken once.

Source: the specification in the repository hashicorp/yamux, spec.md. Each stream has a window of 256 KiB, so that one
whose reader is slow holds up no other. What is left out: the accepting side opens no streams, and pings are sent only
to learn that the other side has read what came before.

Knows nothing of HTTP. The protocols of http1 know that their transport is a stream only where they ask whether the
other side has left: the end of a stream is a frame among those of all others, and no state of the socket.

    frames.py    the twelve bytes before everything that is sent.
    stream.py    one connection, as a transport.
    session.py   the shared socket: frames, turns, which streams there are.
"""

from holdfast.yamux.session import Session
from holdfast.yamux.stream import Stream, StreamRefused

__all__ = ["Session", "Stream", "StreamRefused"]
