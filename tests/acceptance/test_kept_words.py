"""A few calls of what `make faults` does with thousands: cancelled is cancelled, and a body is whole, under kills."""

from __future__ import annotations

import random
import secrets
import sys
from pathlib import Path

import pytest

from tests.faults import cancels, inputs
from tests.faults.row import Plan, Scenario

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what the kernel tells and ends is Linux's")


@pytest.mark.parametrize(
    ("scenario", "calls"),
    [
        pytest.param(cancels.killed_while_cancelled, 90, id="with kills"),
        pytest.param(cancels.cancelled_undisturbed, 300, id="without"),
    ],
)
async def test_no_run_begins_after_the_cancel_of_its_call_was_answered(
    tmp_path: Path, scenario: Scenario, calls: int
) -> None:
    plan = Plan(tmp_path, secrets.randbits(32), calls)
    async for row in scenario(plan):
        assert row.balance.run_cancelled == [], f"seed {plan.seed}: {row}"
        assert row.good, f"seed {plan.seed}: {row}"


@pytest.mark.parametrize(("part", "kind"), [("provider", "reader"), ("supervisor", "pipeline")])
async def test_no_reader_takes_the_end_of_what_stands_above_it_for_the_end_of_the_body(
    part: str, kind: str, tmp_path: Path
) -> None:
    plan = Plan(tmp_path, secrets.randbits(32), 0)
    row = await inputs.killed(plan, part, kind, 2, random.Random(plan.seed))  # noqa: S311 - the same moments again
    assert row.good, f"seed {plan.seed}: {row}"
