from hypothesis import given
from hypothesis import strategies as st

from holdfast.provider.reports import Reported, Reports

PID = 4711


def test_reports_are_differences_from_the_one_before() -> None:
    reports = Reports()
    reports.started()
    assert reports.feed(b"ready 4711\n", PID) is None
    assert reports.ready_pid == PID
    assert reports.feed(b"load 4711 10 3 1500\n", PID) == Reported(10, 1.5)
    assert reports.running == 3
    assert reports.feed(b"load 4711 15 0 4000\n", PID) == Reported(5, 2.5)
    assert reports.running == 0


def test_several_lines_read_at_once_are_added_up() -> None:
    assert Reports().feed(b"load 4711 1 1 10\nload 4711 3 2 1010\n", PID) == Reported(3, 1.01)


@given(st.integers(0, 60))
def test_a_line_cut_by_a_read_is_put_together(at: int) -> None:
    reports, data = Reports(), b"ready 4711\nload 4711 10 3 1500\nload 4711 12 1 2000\n"
    found = [report for part in (data[:at], data[at:]) if (report := reports.feed(part, PID)) is not None]
    assert sum(report.begun for report in found) == 12
    assert reports.ready_pid == PID
    assert reports.running == 1


def test_a_process_that_was_started_again_counts_anew() -> None:
    reports = Reports()
    reports.feed(b"load 4711 10 3 1500\n", PID)
    reports.started()
    assert reports.running == 0
    assert reports.feed(b"load 4712 2 1 100\n", 4712) == Reported(2, 0.1)


def test_the_late_word_of_a_dead_process_counts_for_nothing() -> None:
    reports = Reports()
    reports.started()
    assert reports.feed(b"load 4711 10 3 1500\n", 4712) is None
    assert reports.feed(b"load 4711 10 3 1500\n", None) is None
    assert reports.running == 0


@given(st.binary(max_size=2000))
def test_anything_else_on_the_pipe_is_passed_over(data: bytes) -> None:
    reports = Reports()
    reports.feed(data + b"\n", PID)
    reports.feed(b"x" * 100_000, PID)
    reports.feed(b"\n", PID)
    reports.started()
    assert reports.feed(b"load 4711 1 1 1000\n", PID) == Reported(1, 1.0)


def test_numbers_that_fall_or_are_absurd_add_nothing() -> None:
    reports = Reports()
    reports.feed(b"load 4711 10 3 1500\n", PID)
    assert reports.feed(b"load 4711 5 1 500\n", PID) == Reported(0, 0.0)
    assert reports.feed(b"load 4711 " + b"9" * 180 + b" 1 500\n", PID) is None
    assert reports.feed(b"load 4711 -3 1 500\n", PID) is None
