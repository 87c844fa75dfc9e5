"""Chromium without a window: opens an address and gives the page as it is once its scripts have run."""

from __future__ import annotations

import asyncio
import shutil
import tempfile

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
TIMEOUT_S = 60.0


async def open_page(url: str, *, hosts: str = "") -> str:
    """The page's DOM as text. `hosts` says where names lead, such as `MAP attacker.example 127.0.0.1`.

    Skips the test where there is no Chromium (Debian: chromium-headless-shell).
    """
    binary = next((found for name in NAMES if (found := shutil.which(name))), None)
    if binary is None:
        pytest.skip("left out: no Chromium is installed (Debian: apt-get install chromium-headless-shell)")
    with tempfile.TemporaryDirectory() as profile:
        process = await asyncio.create_subprocess_exec(
            binary,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *(f"--user-data-dir={profile}", "--virtual-time-budget=3000", f"--host-resolver-rules={hosts}"),
            *("--dump-dom", url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                shown, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return shown.decode("utf-8", "replace")
