"""What a process owes is there after it was killed, for one of those that look."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import owed
from holdfast.errors import NotSent, QueueRefused, QueueUnavailable
from holdfast.exposition import carry_over
from holdfast.owed import NO_SLOT, Entry, Owed, left_behind

KILLED = """
import os, signal, sys
from pathlib import Path
from holdfast import owed
with owed.OWED.kept_in(Path(sys.argv[1])):
    first = owed.OWED.note(owed.stored("a", "m-a"))
    second = owed.OWED.note(owed.ended("b", 12))
    third = owed.OWED.note(owed.stored_with_key("c", "c-f", 34))
    owed.OWED.strike(second)
    print(len(list(owed.left_behind(Path(sys.argv[1])))))
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_one(folder: Path) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, str(folder)], capture_output=True, text=True, check=False)
    assert run.stdout == "0\n", run.stderr  # what is owed by one that lives is nobody else's


def test_what_a_killed_process_owed_is_left_to_one_of_those_that_look(tmp_path: Path) -> None:
    kill_one(tmp_path)
    (left,) = left_behind(tmp_path)
    assert list(left_behind(tmp_path)) == []
    assert list(left.slots.values()) == [b"stored a m-a\n", b"stored c c-f 34\n"]
    left.strike(next(iter(left.slots)))
    left.close()
    (again,) = left_behind(tmp_path)
    assert list(again.slots.values()) == [b"stored c c-f 34\n"]
    again.strike(next(iter(again.slots)))
    again.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_owed_outlives_the_server(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    carry_over(folder)
    kill_one(folder)
    carry_over(folder)
    carry_over(folder)
    (left,) = left_behind(folder)
    assert len(left.slots) == 2
    left.close()


def test_a_process_that_owes_nothing_leaves_nothing(tmp_path: Path) -> None:
    owes = Owed()
    with owes.kept_in(tmp_path):
        slots = [owes.note(owed.ended("a", number)) for number in range(100)]
        assert len(set(slots)) == 100
        for slot in slots:
            owes.strike(slot)
        assert owes.note(owed.ended("b", 1)) == slots[-1]
        owes.strike(slots[-1])
    assert list(tmp_path.iterdir()) == []


def test_an_error_says_whether_what_was_sent_is_in_doubt() -> None:
    owes = Owed()
    late = QueueRefused(503, 0, "no stream takes it")
    late.perhaps_stored = True
    for error, doubtful in (
        (NotSent("not connected"), False),
        (QueueRefused(400, 10071, "wrong last sequence"), False),
        (late, True),
        (QueueUnavailable("no confirmation"), True),
        (KeyboardInterrupt(), True),
    ):
        slot = owes.note(owed.stored("a", "a"))
        owes.settle(slot, error)
        assert owes.doubtful == ({slot} if doubtful else set())
        owes.strike(slot)
        assert owes.doubtful == set()


def test_more_than_there_are_slots_for_is_owed_and_not_kept() -> None:
    owes = Owed()
    for number in range(owed.MOST_SLOTS):
        assert owes.note(owed.ended("a", number)) != NO_SLOT
    slot = owes.note(owed.ended("a", 1))
    assert slot == NO_SLOT
    owes.doubt(slot)
    owes.strike(slot)
    assert owes.doubtful == set()


@pytest.mark.parametrize(
    "entry",
    [
        owed.stored("a" * 128, "b" * 64),
        owed.stored_with_key("a", "a-f", 1),
        owed.ended("a", 1),
        owed.replay("a", "b/again/1", "c"),
        owed.replayed("a" * 128, f"{'a' * 128}-{'f' * 32}/again/1764201600123456789", "c" * 32),
    ],
)
def test_an_entry_is_read_as_it_was_written(entry: bytes) -> None:
    assert len(entry) <= owed.SLOT_BYTES
    read = Entry.read(entry)
    assert read is not None
    assert " ".join([read.kind, read.call_id, *read.words]).encode() + b"\n" == entry


@pytest.mark.parametrize("entry", [b"", b"stored a\n", b"ended a b\n", b"other a b\n", b"\xff\n", b"stored a b c d\n"])
def test_what_was_written_by_half_is_no_entry(entry: bytes) -> None:
    assert Entry.read(entry) is None
