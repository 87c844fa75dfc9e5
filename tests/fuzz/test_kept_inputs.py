"""What fuzzing found once, and the inputs that together reach the most code, in every run of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_no_kept_input_breaks_a_promise(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
    inputs = seeds(name) + [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    for data in inputs:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_anything(name: str) -> None:
    for data in (b"", b"\0", b"H", bytes(range(256)), b"\n" * 100):
        TARGETS[name](data)
