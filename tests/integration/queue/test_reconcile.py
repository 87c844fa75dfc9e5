"""What is owed is counted by what NATS holds, by id: once, and not for what it does not hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from holdfast import owed
from holdfast.function import FunctionRef
from holdfast.invocation import CallId, Invocation
from holdfast.owed import OWED
from holdfast.queue import reconcile
from holdfast.queue.connection import connect
from holdfast.queue.dead_letters import DeadLetters
from holdfast.queue.kept_streams import kept_streams
from holdfast.queue.message import to_publish
from holdfast.queue.publisher import Publisher
from holdfast.queue.reconcile import Reconciler
from holdfast.queue.record import CallRecord, CallStatus, subject_of_record
from holdfast.queue.records import Records
from holdfast.queue.topology import ensure_queue
from tests.support.nats import NatsServer
from tests.support.queues import QUEUE, Queue

REF = FunctionRef("owing", "ns")
LEFT = """
import os, signal, sys
from pathlib import Path
from holdfast import owed
with owed.OWED.kept_in(Path(sys.argv[1])):
    for entry in sys.argv[2:]:
        owed.OWED.note(entry.encode() + b"\\n")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def call(call_id: str, message_id: str = "", accepted_at_ns: int = 1) -> Invocation:
    return Invocation(CallId(call_id), message_id or call_id, REF, accepted_at_ns, None, b"POST / HTTP/1.1\r\n\r\n")


def counted() -> tuple[int, int]:
    """Accepted and ended, so far."""
    accepted = REGISTRY.get_sample_value("holdfast_calls_accepted_total", {"function_name": str(REF)})
    ended = REGISTRY.get_sample_value("holdfast_calls_ended_total", {"function_name": str(REF), "status": "succeeded"})
    return int(accepted or 0), int(ended or 0)


class Bench:
    def __init__(self, queue: Queue, folder: Path) -> None:
        self.queue = queue
        self.publisher = Publisher(queue.connection, 10)
        self.records = Records(queue.connection, self.publisher)
        letters = DeadLetters(queue.connection, self.publisher, self.records)
        self.reconciler = Reconciler(queue.connection, self.records, letters, folder)
        self.before = counted()

    async def store(self, invocation: Invocation) -> None:
        await self.publisher.confirm(*to_publish(QUEUE, invocation))

    async def end(self, invocation: Invocation, at_ns: int) -> None:
        record = CallRecord.of(invocation, QUEUE, CallStatus.SUCCEEDED)._replace(finished_at_ns=at_ns)
        await self.records.put(record, b"", 0)

    @property
    def more(self) -> tuple[int, int]:
        """Accepted and ended since the beginning."""
        accepted, ended = counted()
        return accepted - self.before[0], ended - self.before[1]


@pytest.fixture
async def bench(server: NatsServer, tmp_path: Path) -> AsyncIterator[Bench]:
    settings = server.settings()
    async with connect(settings, name="test") as connection, kept_streams(settings):
        await ensure_queue(settings, QUEUE)
        made = Bench(Queue(server, connection), tmp_path)
        yield made
        made.reconciler.close()


def doubt(entry: bytes) -> None:
    OWED.doubt(OWED.note(entry))


async def test_a_call_that_is_in_its_queue_or_was_run_is_counted_once(bench: Bench) -> None:
    await bench.store(call("waits"))
    await bench.end(call("ended"), 7)
    await bench.store(call("shared", "first"))
    await bench.store(call("shared", "second"))
    for entry in (("waits", "waits"), ("ended", "ended"), ("shared", "first")):
        doubt(owed.stored(*entry))
    await bench.reconciler.look()
    await bench.reconciler.look()
    assert bench.more == (3, 0)
    assert OWED.doubtful == set()


async def test_an_end_is_counted_by_whose_record_stands(bench: Bench) -> None:
    await bench.end(call("ended"), 7)
    doubt(owed.ended("ended", 7))
    doubt(owed.ended("ended", 8))
    await bench.reconciler.look()
    assert bench.more == (0, 1)
    assert len(OWED.doubtful) == 1


async def test_a_cancel_that_got_no_further_than_its_record_is_completed(bench: Bench) -> None:
    await bench.store(call("cancelled"))
    record = CallRecord.of(call("cancelled"), QUEUE, CallStatus.WAITING)
    await bench.records.put(record.cancelled(7, "cancelled before it was run"), b"", 0)
    assert await bench.queue.left() == 1
    doubt(owed.ended("cancelled", 7))
    await bench.reconciler.look()
    assert await bench.queue.left() == 0
    assert OWED.doubtful == set()


async def test_of_those_who_send_a_call_with_a_key_the_one_whose_message_is_stored_counts_it(bench: Bench) -> None:
    await bench.store(call("key", "key-f", accepted_at_ns=5))
    await bench.records.put(CallRecord.of(call("only", "only-f", 6), QUEUE, CallStatus.WAITING), b"", 0)
    for entry in (("key", "key-f", 5), ("key", "key-f", 4), ("only", "only-f", 6)):
        doubt(owed.stored_with_key(*entry))
    await bench.reconciler.look()
    assert bench.more == (1, 0)
    assert len(OWED.doubtful) == 2


async def test_an_absence_is_believed_after_a_while_and_what_comes_before_is_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt(owed.stored("late", "late"))
    await bench.reconciler.look()
    assert len(OWED.doubtful) == 1
    await bench.store(call("late"))
    await bench.reconciler.look()
    assert bench.more == (1, 0)
    doubt(owed.stored("never", "never"))
    await bench.reconciler.look()
    monkeypatch.setattr(reconcile, "ABSENT_S", 0.0)
    await bench.reconciler.look()
    assert OWED.doubtful == set()
    assert bench.more == (1, 0)


async def test_what_cannot_be_read_keeps_nothing_else_from_being_counted(bench: Bench) -> None:
    await bench.publisher.confirm(subject_of_record(CallId("damaged")), b"NATS/1.0\r\n\r\n", b"not a record")
    await bench.end(call("ended"), 7)
    for number in range(40):
        doubt(owed.ended("damaged", number))
    doubt(owed.ended("ended", 7))
    await bench.reconciler.look()
    assert bench.more == (0, 1)


async def test_what_killed_processes_left_is_counted_by_one_of_those_that_look(bench: Bench, tmp_path: Path) -> None:
    await bench.store(call("waits"))
    entries = [owed.stored("waits", "waits").decode().strip(), "stored half"]
    for _ in range(2):
        subprocess.run([sys.executable, "-c", LEFT, str(tmp_path), *entries[-1:]], check=False)
    subprocess.run([sys.executable, "-c", LEFT, str(tmp_path), *entries], check=False)
    assert len(list(tmp_path.iterdir())) == 3
    await bench.reconciler.look()
    assert bench.more == (1, 0)
    assert list(tmp_path.iterdir()) == []
