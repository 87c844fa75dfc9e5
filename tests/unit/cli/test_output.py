"""Plain text for people."""

import pytest

from holdfast.cli.output import fields, plain, span, table


def test_what_others_wrote_cannot_drive_the_terminal() -> None:
    assert plain("a\x1b[2J\nb\x9b") == "a\ufffd[2J\ufffdb\ufffd"
    assert plain("a\tb\nc\r\0", lines=True) == "a\tb\nc\ufffd\ufffd"
    assert table(["A"], [["x\x07"]]) == ["A", "x\ufffd"]
    assert fields({"Reason": "a\nb", "Headers": ["x\x1b"]}) == ["Reason:  a\ufffdb", "Headers: x\ufffd"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0.0s"), (59.94, "59.9s"), (60, "1m 0s"), (125.9, "2m 5s"), (3600, "1h 0m"), (275_000, "3d 4h")],
)
def test_a_length_of_time_is_shown_in_its_two_largest_units(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


def test_columns_are_as_wide_as_their_widest_cell_and_lines_have_no_spaces_at_their_end() -> None:
    assert table(["Function", "Invocations"], [["figlet", "3"], ["a-long-name", "1200"]], right=frozenset({1})) == [
        "Function     Invocations",
        "figlet                 3",
        "a-long-name         1200",
    ]
    assert table(["A", "B"], [["x", ""]]) == ["A  B", "x"]


def test_fields_are_aligned_and_empty_ones_left_out() -> None:
    assert fields(
        {"Name": "figlet", "Reason": "", "Labels": {"team": "a", "tier": "b"}, "Secrets": [], "URL": "http://x"}
    ) == [
        "Name:   figlet",
        "Labels: team: a",
        "        tier: b",
        "URL:    http://x",
    ]
