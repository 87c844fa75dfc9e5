"""Whose call is whose, in a queue that workers of several providers take from, by what one worker hears."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.directory import directory
from holdfast.function import FunctionRef
from holdfast.http1.client import ClientPool
from holdfast.invocation import CallId, Invocation
from holdfast.queue.connection import connect
from holdfast.queue.presence import Worker
from holdfast.queue.publisher import Publisher
from holdfast.queue.topology import ensure_queue
from holdfast.settings import WorkerSettings
from holdfast.worker import providers as module
from holdfast.worker.providers import Providers
from tests.support.nats import nats_server
from tests.support.providers import provider

CALL = Invocation(CallId("c1"), "m1", FunctionRef("cat"), 1, None, b"POST / HTTP/1.1\r\n\r\n")


def announced(provider_id: str) -> Worker:
    return Worker(f"worker-of-{provider_id}", "faas-request", {"provider": provider_id, "provider_url": "http://other"})


@pytest.fixture
async def providers(tmp_path: Path) -> AsyncIterator[Providers]:
    """Of a worker whose provider is a real one."""
    async with (
        nats_server() as nats,
        provider("functions: {cat: {fprocess: cat}}", tmp_path) as running,
        ClientPool() as pool,
        directory(pool, running.url, None) as functions,
        connect(nats.settings(), name="worker") as connection,
    ):
        await ensure_queue(nats.settings(), "faas-request")
        settings = WorkerSettings.from_environment({"functions_provider_url": running.url})
        made = Providers(
            settings, nats.settings(), connection=connection, publisher=Publisher(connection, 5), functions=functions
        )
        assert await functions.identify()
        yield made


async def test_a_call_is_another_providers_once_that_one_was_heard_of(providers: Providers) -> None:
    own = providers.own
    assert own
    assert await providers.meant(CALL._replace(provider=own)) == ""
    # Nobody knows that provider: it is one that was here before, with another folder.
    assert await providers.meant(CALL._replace(provider="other")) == ""
    assert not providers.is_shared()
    assert providers.heard(announced(own)) == ""
    assert providers.heard(announced("other")) == "other"
    assert providers.is_shared()
    assert await providers.meant(CALL._replace(provider="other")) == "other"
    assert (providers.serves(own), providers.serves("other")) == (True, False)


async def test_the_lane_of_a_provider_is_remembered_when_nobody_of_it_is_there(providers: Providers) -> None:
    await providers.hand_over(CALL._replace(provider="other"), "other")
    assert await providers.meant(CALL._replace(provider="other")) == "other"


async def test_what_a_provider_that_is_gone_for_good_has_left_is_taken_over(
    providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers.heard(announced("other"))
    monkeypatch.setattr(module, "ORPHANED_S", -1.0)
    assert await providers.meant(CALL._replace(provider="other")) == ""
    assert providers.serves("other")
    assert not providers.is_shared()
    assert await providers.next_after(CALL) == ""


async def test_a_call_without_a_provider_is_asked_of_each_once(providers: Providers) -> None:
    own = providers.own
    assert await providers.next_after(CALL) == ""
    for other in ("b", "a"):
        providers.heard(announced(other))
    assert await providers.next_after(CALL) == "a"
    # It comes back from there, as it were: each that has refused it is passed over.
    assert await providers.next_after(CALL._replace(provider=own, refused_by=("a",))) == "b"
    assert await providers.next_after(CALL._replace(provider=own, refused_by=("a", "b"))) == ""
    # One that was accepted for this provider is nobody else's.
    assert await providers.next_after(CALL._replace(provider=own)) == ""
