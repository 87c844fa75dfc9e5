"""Calls that are cancelled, with and without kills of the function's processes: none begins after its 202.

Three functions, one for each way in which a watchdog runs code. Each writes down a run as its first act.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.faults.row import Plan, Row
from tests.support.ledger import Fault, Run, read_journal
from tests.support.receiver import receiver
from tests.support.scene import ENVIRON, JOURNAL, settled
from tests.support.serving import Serving, serving
from tests.support.traffic import Kind, Traffic

CANCELLED = 1000
HOWS = ("functions killed", "functions stopped", "worker killed")
FUNCTIONS = ("handler", "command", "server")
ROUND = 14
# Calls of each function in one round: with those of the others fewer than there are slots.
TAKES_S = 0.3
STOPPED_S = (0.2, 2.0)
CONNECTIONS = 16
# As a shell script's first line: the call and the time.
COMMAND = """#!/bin/sh
echo "$Http_X_Call_Id $(date +%s.%N)" >> "$journal.command"
sleep "${Http_X_Takes:-0}"
"""
SERVER = """
import http.server, os, select, time
journal = os.open(os.environ["journal"] + ".server", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
class Function(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        # It begins now, unless nobody waits for it any more: a look lets other threads run.
        begun = time.time()
        ended = select.poll()
        ended.register(self.connection, select.POLLRDHUP)
        if ended.poll(0):
            self.close_connection = True
            return
        os.write(journal, f"{self.headers['X-Call-Id']} {begun!r}\\n".encode())
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(float(self.headers.get("X-Takes", "0")))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
Server(("127.0.0.1", int(os.environ["PORT"])), Function).serve_forever()
"""


def stack_file(folder: Path) -> Path:
    """A stack.yml with the three functions."""
    command, server = folder / "command.sh", folder / "server.py"
    command.write_text(COMMAND)
    command.chmod(0o755)
    server.write_text(SERVER)
    journal = f"      journal: {folder / 'journal'}\n"
    path = folder / "stack.yml"
    path.write_text(
        "version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n"
        f"  handler:\n    lang: python3-http\n    handler: {JOURNAL}\n    environment:\n{journal}"
        f"  command:\n    fprocess: {command}\n    environment:\n{journal}"
        f"  server:\n    fprocess: {shlex.join([sys.executable, str(server)])}\n    environment:\n{journal}"
        "      mode: http\n"
    )
    return path


def runs_of(folder: Path) -> list[Run]:
    """The runs of all three, by the monotonic clock."""
    monotonic = time.monotonic() - time.time()
    by_wall = [run for name in ("command", "server") for run in read_journal(folder / f"journal.{name}")]
    return read_journal(folder / "journal") + [Run(call_id, at + monotonic) for call_id, at in by_wall]


async def killed_while_cancelled(plan: Plan) -> AsyncIterator[Row]:
    """Watchdogs are killed or stand still, or the worker is killed, under calls that are cancelled before or after."""
    dice = random.Random(plan.seed)  # noqa: S311 - the same moments again from the same seed
    options = ("--no-auth", "--stack", str(stack_file(plan.folder)), "--max-inflight", "64")
    async with receiver() as callbacks, serving(plan.folder, *options, environ=ENVIRON) as server:
        for how in HOWS:
            kind = Kind("cancelled", 1, {"X-Takes": str(TAKES_S)}, callback=False, cancel_after_s=0.8)
            parts = [
                Traffic(lambda: server.url, name, callbacks.url, seed=plan.seed + number, kinds=(kind,))
                for number, name in enumerate(FUNCTIONS)
            ]
            faults: list[Fault] = []
            while sum(len(part.sent.cancelled) for part in parts) < min(CANCELLED, plan.calls) // len(HOWS):
                faults.append(await _round(server, parts, how, dice))
            yield await _row(plan, how, parts, faults)


async def _round(server: Serving, parts: list[Traffic], how: str, dice: random.Random) -> Fault:
    """Some calls of each function, cancelled within a second; at some moment of it something happens."""
    for name in FUNCTIONS:
        status = await server.call(f"/system/function/{name}?wait=30s", method="GET")
        assert status.json()["availableReplicas"], status.text
    before = [len(part.sent.accepted) for part in parts]
    sending = [asyncio.create_task(part.send(ROUND, CONNECTIONS)) for part in parts]
    await asyncio.gather(*(part.accepted(count + ROUND // 2) for part, count in zip(parts, before, strict=True)))
    await asyncio.sleep(dice.uniform(0, TAKES_S))
    began = time.monotonic()
    pids = server.ready["processes"]["worker"] if how == "worker killed" else server.replicas()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # a worker whose next one is not ready yet
            os.kill(pid, signal.SIGSTOP if how == "functions stopped" else signal.SIGKILL)
    if how == "functions stopped":
        await asyncio.sleep(dice.uniform(*STOPPED_S))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    await asyncio.gather(*sending)
    return Fault(how, began, time.monotonic())


async def cancelled_undisturbed(plan: Plan) -> AsyncIterator[Row]:
    """Calls that are cancelled in the moments about the beginning of their run, and nothing else happens."""
    kind = Kind("cancelled", 1, {"X-Takes": "0.3"}, callback=False, cancel_after_s=0.03)
    options = ("--stack", str(stack_file(plan.folder)), "--max-inflight", "32", "--workers", "2")
    calls = max(1, plan.calls * 11 // 20 // len(FUNCTIONS))  # a few have ended before
    async with receiver() as callbacks, serving(plan.folder, *options) as server:
        for number, name in enumerate(FUNCTIONS):
            part = Traffic(lambda: server.url, name, callbacks.url, seed=plan.seed + number, kinds=(kind,))
            await part.send(calls, CONNECTIONS)
            yield await _row(plan, f"{name}, undisturbed", [part], [])


async def _row(plan: Plan, what: str, parts: list[Traffic], faults: list[Fault]) -> Row:
    """The sum over several functions."""
    traffic = parts[0]
    for part in parts[1:]:
        traffic.sent.accepted |= part.sent.accepted
        traffic.sent.cancelled |= part.sent.cancelled
        traffic.sent.unanswered |= part.sent.unanswered
        traffic.sent.doubtful |= part.sent.doubtful
    mine = traffic.sent.ids
    async with receiver() as nobody:
        drawn = await settled(
            traffic, nobody, lambda: [run for run in runs_of(plan.folder) if run.call_id in mine], faults, 180
        )
    return Row(what, drawn, f"{len(traffic.sent.cancelled)} cancelled, {len(drawn.run_cancelled)} begun after that")
