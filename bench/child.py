"""The bench's own processes: a specification as one line of JSON in, a result as one line out.

Load, round trips and callbacks are made in processes of their own, so that their cost is seen apart and the one who
measures does not disturb. A child ends when its standard input ends: it never outlives the bench.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 20


class BenchError(Exception):
    """Something does not work, so that nothing can be measured; the message says what and what to do."""


class Child:
    """A running child: `ask` sends one line and waits for one line."""

    def __init__(self, module: str, process: asyncio.subprocess.Process) -> None:
        self._module = module
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, spec: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """Send `spec` and return the answer. Raises BenchError when the child fails or says nothing in time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(spec).encode() + b"\n")
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise BenchError(f"{self._module} gave no result within {timeout_s:g} s") from None
        if not line:
            raise BenchError(f"{self._module} ended without a result: see its output above")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(f"{self._module}: {answer['error']}")
        return answer


def told(error: BaseException) -> str:
    """An error in one line; of a group, its first error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"


@contextlib.asynccontextmanager
async def child(module: str) -> AsyncIterator[Child]:
    """Start `python -m module` and end it on leaving."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        limit=1 << 20,
    )
    try:
        yield Child(module, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ask_once(module: str, spec: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
    """Start a child for one question."""
    async with child(module) as asked:
        return await asked.ask(spec, timeout_s=timeout_s + START_TIMEOUT_S)


def serve_lines(answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
    """The child's side: answer each line of standard input until it ends. An exception becomes an error answer."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        lines = asyncio.StreamReader(limit=1 << 20)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            try:
                result = await answer(json.loads(line))
            except Exception as error:  # noqa: BLE001 - the parent decides what becomes of it
                result = {"error": told(error)}
            try:
                print(json.dumps(result), flush=True)
            except BrokenPipeError:
                os._exit(1)  # the parent was killed: nobody is there to be told

    # Only lists of floats grow here: no garbage that needs collecting, and no pauses that would look like latency.
    gc.disable()
    uvloop.run(run())
