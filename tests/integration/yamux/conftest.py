"""On both loops: they differ in when they write, pause and report."""

from tests.integration.http1.conftest import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]
