from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from holdfast import line_writer
from holdfast.line_writer import LineWriter


class Missing:
    """What a writer tells of lines that were lost."""

    def __init__(self) -> None:
        self.dropped = 0
        self.told = 0
        self.all_told = threading.Condition()

    def drop(self) -> None:
        self.dropped += 1

    def back(self, missing: int) -> None:
        with self.all_told:
            self.told += missing
            self.all_told.notify_all()


def writer(descriptor: int) -> tuple[LineWriter, Missing]:
    missing = Missing()
    return LineWriter(descriptor, on_dropped=missing.drop, on_back=missing.back), missing


def test_lines_are_written_whole_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines, missing = writer(os.open(path, os.O_WRONLY | os.O_CREAT))
    for number in range(500):
        lines.write(f"line {number} \udcff\n")
    lines.drain()
    assert path.read_text() == "".join(f"line {number} \\udcff\n" for number in range(500))
    assert missing.dropped == 0


def test_lines_that_nobody_reads_any_more_are_dropped_and_counted() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    lines, missing = writer(write_end)
    for _ in range(3):
        lines.write("lost\n")
    lines.drain()
    assert missing.dropped == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_lines_for_which_there_is_no_room_are_dropped_and_counted() -> None:
    lines, missing = writer(os.open("/dev/full", os.O_WRONLY))
    lines.write("lost\n")
    lines.drain()
    assert missing.dropped == 1


def test_a_closed_descriptor_costs_the_lines_and_nothing_else() -> None:
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.close(descriptor)
    lines, missing = writer(descriptor)
    lines.write("lost\n")
    lines.drain()
    assert missing.dropped == 1


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_hangs_holds_up_nobody_and_is_told_later_what_it_missed(
    monkeypatch: pytest.MonkeyPatch, *, blocking: bool
) -> None:
    monkeypatch.setattr(line_writer, "MOST_WAITING", 256 * 1024)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, blocking)
    lines, missing = writer(write_end)
    line = "x" * 1023 + "\n"
    began = time.monotonic()
    for _ in range(1000):  # a pipe takes 64 KiB, the writer 256
        lines.write(line)
    lines.drain(0.05)
    assert time.monotonic() - began < 10
    assert 1000 > missing.dropped > 500
    kept = 1000 - missing.dropped
    got = b""
    while len(got) < kept * len(line):
        got += os.read(read_end, 65536)
    assert got.count(b"\n") == kept
    lines.write("seen\n")
    assert os.read(read_end, 65536) == b"seen\n"
    with missing.all_told:
        assert missing.all_told.wait_for(lambda: missing.told == missing.dropped, 10)


def test_a_line_after_one_that_was_cut_off_stands_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    real, room = os.write, [5, 0]

    def almost_full(into: int, data: bytes) -> int:
        if into != descriptor or not room:
            return real(into, data)
        most = room.pop(0)
        if not most:
            raise OSError(28, "No space left on device")
        return real(into, bytes(data)[:most])

    monkeypatch.setattr(os, "write", almost_full)
    lines, missing = writer(descriptor)
    lines.write("a long line\n")
    lines.write("the next\n")
    lines.drain()
    assert path.read_text() == "a lon\nthe next\n"
    assert missing.dropped == 1
