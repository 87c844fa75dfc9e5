"""A server with the journal's function, a receiver and traffic: what the fault tests and `make faults` play on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from tests.support.ledger import Balance, Fault, Run, balance, read_journal
from tests.support.receiver import Receiver, receiver
from tests.support.serving import Serving, serving
from tests.support.traffic import KINDS, Kind, Traffic

JOURNAL = Path(__file__).parent / "journal"
ENVIRON = {
    "ack_wait": "2s",
    "initial_retry_wait": "200ms",
    "max_retry_wait": "1s",
    "callback_initial_wait": "200ms",
    "callback_max_wait": "1s",
    "callback_timeout": "5s",
}
TOLD_TIMEOUT_S = 30.0


def stack_file(folder: Path) -> Path:
    """A stack.yml with the journal's function, whose journal is in the same folder, and another one beside it."""
    path = folder / "stack.yml"
    path.write_text(
        "version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n  journal:\n    lang: python3-http\n"
        f"    handler: {JOURNAL}\n    environment:\n      journal: {folder / 'journal'}\n"
        "  other:\n    fprocess: cat\n"
    )
    return path


class Scene:
    """Get it from `scene()`."""

    def __init__(self, server: Serving, callbacks: Receiver, folder: Path) -> None:
        self.server = server
        self.callbacks = callbacks
        self.folder = folder
        self.faults: list[Fault] = []
        self.probes: set[str] = set()
        """Calls beside all traffic."""
        self._traffics: list[Traffic] = []

    def traffic(self, seed: int, kinds: tuple[Kind, ...] = KINDS) -> Traffic:
        made = Traffic(lambda: self.server.url, "journal", self.callbacks.url, seed=seed, kinds=kinds)
        self._traffics.append(made)
        return made

    @property
    def runs(self) -> list[Run]:
        """All runs so far."""
        return read_journal(self.folder / "journal")

    async def kill(self, part: str, index: int | None = None) -> None:
        """kill -9 of a part, of one of its processes or of all; returns when it was started again."""
        await self.end(part, signal.SIGKILL, index)

    async def end(self, part: str, how: signal.Signals, index: int | None = None) -> None:
        """Send a part a signal that ends it; returns when it was started again."""
        began = time.monotonic()
        before = self.server.ready["processes"][part]
        for pid in before if index is None else [before[index]]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        await self._until_there(part, gone=set(before if index is None else [before[index]]), count=len(before))
        self.faults.append(Fault(f"{how.name} to {part}", began, time.monotonic()))

    async def freeze(self, part: str, seconds: float, index: int | None = None) -> None:
        """SIGSTOP of one of a part's processes or of all, for a while."""
        began = time.monotonic()
        all_of_it = self.server.ready["processes"][part]
        stopped = all_of_it if index is None else [all_of_it[index]]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        self.faults.append(Fault(f"SIGSTOP of {part} for {seconds:g} s", began, time.monotonic()))

    @contextlib.contextmanager
    def held(self, part: str) -> Iterator[None]:
        """The part's processes stand still meanwhile."""
        pids = self.server.ready["processes"][part]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):  # killed meanwhile
                    os.kill(pid, signal.SIGCONT)

    async def _until_there(self, part: str, gone: set[int], count: int) -> None:
        """The ready file is written whenever a part was started; nothing tells of that to another process."""
        async with asyncio.timeout(30):
            while True:
                now = self.server.ready["processes"].get(part, [])
                if len(now) == count and not gone & set(now):
                    return
                await asyncio.sleep(0.02)

    async def balance(self, traffic: Traffic, timeout_s: float = 120) -> Balance:
        """Wait for the ends of all calls of some traffic and draw the sum."""
        others = {call_id for other in self._traffics if other is not traffic for call_id in other.sent.ids}
        others |= self.probes
        return await settled(
            traffic,
            self.callbacks,
            lambda: [run for run in self.runs if run.call_id not in others],
            self.faults,
            timeout_s,
        )


async def settled(
    traffic: Traffic, callbacks: Receiver, runs: Callable[[], list[Run]], faults: list[Fault], timeout_s: float = 120
) -> Balance:
    """Wait for the ends of all calls of some traffic and for their callbacks, and draw the sum."""
    records = await traffic.records(timeout_s=timeout_s)
    told = {
        call_id
        for call_id, asked in traffic.sent.accepted.items()
        if asked.callback and (records[call_id] or {}).get("status") in {"succeeded", "failed", "expired"}
    }
    with contextlib.suppress(TimeoutError):  # the ledger says which are missing
        await callbacks.wait_for_ids(told, TOLD_TIMEOUT_S)
    mine = traffic.sent.ids
    confirmed = Counter({call_id: times for call_id, times in callbacks.confirmed().items() if call_id in mine})
    return balance(traffic.sent, runs(), confirmed, records, faults)


@contextlib.asynccontextmanager
async def scene(folder: Path, *options: str, environ: dict[str, str] | None = None) -> AsyncIterator[Scene]:
    """A scene that is ready."""
    async with (
        receiver() as callbacks,
        serving(folder, "--stack", str(stack_file(folder)), *options, environ={**ENVIRON, **(environ or {})}) as server,
    ):
        yield Scene(server, callbacks, folder)
