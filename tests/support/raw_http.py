"""One HTTP request as exact bytes, and what came back: libraries would tidy up targets and headers on the way."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

TIMEOUT_S = 60.0


class RawAnswer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def text(self) -> str:
        return self.body.decode()


async def request(
    port: int,
    target: str = "/",
    body: bytes = b"",
    *,
    method: str = "POST",
    headers: list[tuple[str, str]] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> RawAnswer:
    """Send a request on a connection of its own. The target goes out as given, headers as Latin-1."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            lines = [("Host", f"127.0.0.1:{port}"), ("Connection", "close"), *(headers or [])]
            if body or method in {"POST", "PUT", "PATCH"}:
                lines.append(("Content-Length", str(len(body))))
            head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
            writer.write(head.encode("latin-1") + body)
            await writer.drain()
            answer = await reader.read()
        finally:
            writer.close()
    if not answer:
        raise ConnectionResetError("the connection ended without an answer")
    head_bytes, _, rest = answer.partition(b"\r\n\r\n")
    status_line, *header_lines = head_bytes.decode("latin-1").split("\r\n")
    pairs = [line.partition(": ") for line in header_lines]
    return RawAnswer(int(status_line.split(" ")[1]), [(name, value) for name, _, value in pairs], rest)
