"""A data folder that another version made opens without a manual step, and everything in it goes on."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.support.old_versions import OldVersion
from tests.upgrade.inheritance import Site, leave, look_again, served, take_over

pytestmark = pytest.mark.timeout(300)


async def test_a_folder_of_the_version_before_opens_and_everything_in_it_goes_on(
    tmp_path: Path, old: OldVersion
) -> None:
    site = Site(tmp_path)
    async with served(site, old.environ) as server:
        assert old.name in server.banner
        left = await leave(server, site)
    async with served(site) as server:
        assert old.name not in server.banner
        await take_over(server, left)
    async with served(site) as server:
        await look_again(server, left)


async def test_a_folder_of_the_version_before_opens_after_its_server_was_killed(
    tmp_path: Path, old: OldVersion
) -> None:
    site = Site(tmp_path)
    async with served(site, old.environ) as server:
        left = await leave(server, site)
        parts = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        psutil.wait_procs(parts, timeout=30)
        await server.process.wait()
    async with served(site) as server:
        await take_over(server, left)


async def test_the_version_before_opens_a_folder_that_this_one_has_used(tmp_path: Path, old: OldVersion) -> None:
    site = Site(tmp_path)
    async with served(site) as server:
        left = await leave(server, site)
    async with served(site, old.environ) as server:
        assert old.name in server.banner
        # What a key stands for is for each version to say; the one before knows no key of a later one.
        await take_over(server, left, keys=False)
    async with served(site) as server:
        await look_again(server, left)
