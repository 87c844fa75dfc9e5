"""What a host and a URL must look like to be called, or listened on: checked where they are given. No I/O.

Whether anything is there is found out by using them. Where a callback may go is callback_guard.py's.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

# RFC 1123, with the underscore that names in private networks have, and the dot that marks a name as complete.
_NAME = re.compile(r"(?=.{1,254}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?)+", re.IGNORECASE)


def is_host(text: str) -> bool:
    """Whether a text is a host's name, or its address; IPv6 without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _NAME.fullmatch(text) is not None
    return True


def check_url(text: str) -> None:
    """Raises ValueError, which says why, unless a text is the http or https URL of one server, perhaps with a path.

    User and password have their own settings; in a URL they would be logged.
    """
    if any(character <= " " for character in text) or not text.isascii():
        raise ValueError("there is a space or a character in it that no URL has")
    parts = urlsplit(text)  # raises ValueError for brackets that are no address
    if parts.scheme not in {"http", "https"}:
        raise ValueError("it does not begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("there is a user in it")
    if parts.query or parts.fragment:
        raise ValueError("there is a query in it")
    if not is_host(parts.hostname or ""):
        raise ValueError("its host is neither a name nor an address")
    if parts.port == 0:  # raises ValueError when it is no number, or beyond 65535
        raise ValueError("its port is 0")


def in_url(host: str) -> str:
    """A host as it stands in a URL: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
