"""A gateway's client: where servers on this machine are, which user and password a gateway wants, and its HTTP API.

`holdfast.client.gateway` (the API, with the HTTP library behind it) is imported by its own name: `holdfast serve`
needs only the registry, and must not pay for loading an HTTP client.
"""

from __future__ import annotations

from holdfast.client.credentials import find_credentials
from holdfast.client.servers import forget_server, register_server

__all__ = ["find_credentials", "forget_server", "register_server"]
