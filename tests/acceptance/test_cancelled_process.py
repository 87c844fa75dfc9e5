"""Cancelling a call that a forked process runs ends the process, with all that it has started."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil

from tests.support.serving import serving

STACK = """\
version: 1.0
provider: {name: openfaas}
functions:
  sleeper: {fprocess: "sh -c 'sleep 60.25 & wait'", image: s}
"""
GONE_WITHIN_S = 5.0
# A second on a machine that has nothing else to do.


def sleepers() -> list[psutil.Process]:
    """The processes of the function, told by their command line."""
    return [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", "60.25"]]


async def test_the_process_of_a_cancelled_call_is_gone_within_a_second(tmp_path: Path) -> None:
    (tmp_path / "stack.yml").write_text(STACK)
    before = {process.pid for process in sleepers()}
    async with serving(tmp_path, "--stack", str(tmp_path / "stack.yml")) as server:
        call_id = await server.accept("sleeper")
        async with asyncio.timeout(30):
            while not (started := [one for one in sleepers() if one.pid not in before]):
                await asyncio.sleep(0.02)
        assert (await server.call(f"/async-function/{call_id}", method="DELETE")).status_code == 202
        _, alive = await asyncio.to_thread(psutil.wait_procs, started, GONE_WITHIN_S)
        assert not alive
        document = (await server.call(f"/async-function/{call_id}", method="GET")).json()
        assert document["status"] == "cancelled"
