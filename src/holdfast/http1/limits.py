"""Every limit of the server lane, with its unit in its name. No I/O, no decisions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server grants to its clients. Times are measured about every second: up to one second late."""

    max_header_bytes: int = 131_072
    """Request line and header lines together; beyond it 431. 64 KB of cookies are seen in practice and must pass.
    Trailers and chunk extensions, which are read and thrown away, have the same limit."""
    max_headers: int = 256
    """Header lines; beyond it 431."""
    max_target_bytes: int = 16_384
    """The request target; beyond it 414. RFC 9112, section 3, asks for 8,000 at least."""
    max_pipelined: int = 128
    """Requests that wait behind an unanswered one on the same connection; beyond it 400, after the earlier answers."""
    max_drain_bytes: int = 65_536
    """How much of a body that nobody asked for is read and thrown away to keep the connection; beyond it, it closes."""
    max_connections: int = 10_000
    """Open connections; one more is answered 503 and closed."""
    max_held_bytes: int = 268_435_456
    """Request bodies that are collected, or collected and not answered yet, over all connections; beyond it 503."""
    head_timeout_s: float = 10.0
    """From the first byte of a request head to its last; beyond it 408."""
    idle_timeout_s: float = 75.0
    """Between two requests, and before the first; beyond it the connection is closed without a word."""
    body_timeout_s: float = 60.0
    """The longest pause within a request body; beyond it 408."""
    min_body_rate: int = 500
    """Bytes a second at which a body that is collected must come, after `body_timeout_s` of grace; slower 408. A
    streamed body may come as slowly as its application likes (`steady`). 0: any rate."""
    write_timeout_s: float = 60.0
    """The longest time in which a client with unsent bytes takes none of them; beyond it the connection is dropped."""
    linger_s: float = 2.0
    """How long a connection is still read, and what comes thrown away, after an answer that came before the end of the
    request: closed at once, the client's unread bytes would make the kernel destroy the answer on its way."""
