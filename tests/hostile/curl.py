"""curl as a client: of the gateway, and of an answer that was recorded."""

from __future__ import annotations

import asyncio
import shutil

from tests.hostile.readings import Answer

CURL = shutil.which("curl")
PATIENCE_S = 60


async def run(*arguments: str, body: bytes = b"") -> tuple[int, bytes]:
    """curl's exit code and what it printed."""
    assert CURL is not None
    process = await asyncio.create_subprocess_exec(
        CURL,
        *("--silent", "--show-error", "--noproxy", "*", "--max-time", str(PATIENCE_S), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate(body)
    assert process.returncode is not None
    return process.returncode, output


def answers(output: bytes) -> list[Answer]:
    """What `curl --include` printed: a block of headers for each answer, interim ones included, and the last's body."""
    found: list[Answer] = []
    while output.startswith(b"HTTP/"):
        head, _, output = output.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        pairs = (header.partition(b":") for header in lines)
        found.append(Answer(int(line.split(b" ")[1]), [(name, value.strip()) for name, _, value in pairs], b""))
    assert found, output
    return [*found[:-1], Answer(found[-1].status, found[-1].headers, output)]


async def reading(recorded: bytes, method: bytes) -> list[Answer]:
    """What curl reads when a server answers with these bytes and then keeps the connection open."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(recorded)
        await reader.read()  # until curl leaves
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        how = ["--head"] if method == b"HEAD" else ["--request", method.decode()]
        code, output = await run("--include", "--http1.1", *how, url)
    assert code == 0, f"curl cannot read it, its exit code is {code}: {recorded!r}"
    return answers(output)
