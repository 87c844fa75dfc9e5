"""The header of a yamux frame, and the numbers in it. No I/O."""

from __future__ import annotations

from struct import Struct

HEADER = Struct(">BBHII")
# Version, type, flags, stream id, length.
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
NORMAL, PROTOCOL_ERROR = 0, 1
# What `GO_AWAY` says in place of a length.

WINDOW = 262_144
# What a stream may send before it is granted more.
LAST_ID = 2**31 - 1
