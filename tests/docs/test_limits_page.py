"""The page of limits names settings that there are, with their defaults, and tests that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from holdfast import settings
from tests.docs.pages import ROOT

PARTS = {
    record.PART: record
    for record in (
        settings.GatewaySettings,
        settings.WorkerSettings,
        settings.WatchdogSettings,
        settings.ProviderSettings,
        settings.NatsSettings,
    )
}
PAGE = (ROOT / "docs/reference/limits.md").read_text("utf-8")


def _rows() -> Iterator[tuple[str, list[str]]]:
    """The part and the cells of each row."""
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        part, _, text = section.partition("\n")
        for row in re.findall(r"^\| (.*) \|$", text, re.MULTILINE)[1:]:
            yield part, [cell.strip() for cell in row.split(" | ")]


@pytest.mark.parametrize("part", PARTS)
def test_each_limit_has_the_default_that_the_code_has(part: str) -> None:
    declared = {setting.name: setting.default for setting in PARTS[part].declared()}
    shown = [(cells[1].strip("`"), cells[2].strip("`")) for of, cells in _rows() if of == part and "`" in cells[1]]
    assert shown
    assert shown == [(name, declared[name]) for name, _ in shown]


def test_each_limit_is_shown_by_a_test_that_there_is() -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert len(named) > 30
    assert [name for name in named if f"def {name}(" not in sources] == []


def test_no_limit_of_a_part_is_left_out() -> None:
    on_page = set(re.findall(r"`(\w+)`", PAGE))
    for record in PARTS.values():
        limits = {s.name for s in record.declared() if re.match(r"max_|.*_(timeout|attempts|inflight)$", s.name)}
        # How retries pause is no limit of anything that others can make grow; the last gives up NATS, not a caller.
        assert limits - on_page <= {"max_retry_wait", "max_reconnect"}


def test_each_test_that_the_security_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "SECURITY.md").read_text("utf-8"))
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []
