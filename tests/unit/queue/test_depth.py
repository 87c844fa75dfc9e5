from __future__ import annotations

import pytest

from holdfast.queue.depth import matches


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("q.call.>", "q.call.ns.f.id", True),
        ("q.call.>", "q.call.ns.f.>", True),
        ("q.call.>", "q.call", False),
        ("q.call.>", "q.lane.ns.f.id", False),
        ("q.lane.ns.f.*", "q.lane.ns.f.id", True),
        ("q.lane.ns.f.*", "q.lane.ns.f.>", True),
        ("q.lane.ns.f.*", "q.lane.ns.g.id", False),
        ("q.lane.ns.f.*", "q.lane.ns.f.id.m", False),
        (">", "q", True),
    ],
)
def test_a_subject_matches_a_pattern_as_nats_has_it(pattern: str, subject: str, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert matches(pattern, subject) is expected
