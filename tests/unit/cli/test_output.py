"""Plain text for people."""

from holdfast.cli.output import fields, table


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
