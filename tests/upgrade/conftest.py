"""Every test here is run with each version that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.old_versions import OldVersion, unpack, wheels


@pytest.fixture(scope="session", params=wheels(), ids=lambda wheel: wheel.name.split("-")[1])
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OldVersion:
    wheel: Path = request.param
    return unpack(wheel, tmp_path_factory.mktemp("version"))
