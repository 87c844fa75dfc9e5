"""Gateway and worker on another host than the provider: they call its replicas or nobody, never their own loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.hosts import Host, two_hosts
from tests.support.parts import Part

PROVIDER_PORT = 8083


class Scene(NamedTuple):
    here: Host
    """Where the provider is."""
    there: Host
    """Where gateway and worker are."""
    gateway: Part
    worker: Part

    @property
    def url(self) -> str:
        """Of the gateway, on its own host."""
        return self.gateway.url

    async def replica(self) -> dict[str, Any]:
        shown = await self.here.curl(f"http://{self.here.address}:{PROVIDER_PORT}/system/function/cat?wait=30s")
        described: dict[str, Any] = json.loads(shown)
        assert described["endpoints"], described
        return described

    async def call(self) -> tuple[str, int]:
        """Body and status of a synchronous call."""
        text = await self.there.curl("-w", "\n%{http_code}", "-d", "hello", f"{self.url}/function/cat")
        body, status = text.rsplit("\n", 1)
        return body, int(status)

    async def accept(self) -> str:
        """The id of an asynchronous call."""
        head = await self.there.curl("-i", "-d", "hello", f"{self.url}/async-function/cat")
        found = re.search(r"(?i)x-call-id: (\S+)", head)
        assert found is not None, head
        return found[1]

    async def record(self, call_id: str, wait: str = "0s") -> dict[str, Any]:
        record: dict[str, Any] = json.loads(await self.there.curl(f"{self.url}/async-function/{call_id}?wait={wait}"))
        return record


@contextlib.asynccontextmanager
async def scene(folder: Path, provider: dict[str, str], both: dict[str, str]) -> AsyncIterator[Scene]:
    (folder / "stack.yml").write_text("functions: {cat: {fprocess: cat, image: c}}")
    with two_hosts() as (here, there):
        async with contextlib.AsyncExitStack() as stack:
            nats = await stack.enter_async_context(here.nats(folder))
            environ = {
                "provider_data": str(folder / "provider"),
                "stack": str(folder / "stack.yml"),
                "provider_host": here.address,
                "provider_port": str(PROVIDER_PORT),
                **both,
                **provider,
            }
            await stack.enter_async_context(here.part("provider", **environ))
            known = {
                "nats_url": nats,
                "functions_provider_url": f"http://{here.address}:{PROVIDER_PORT}",
                "upstream_timeout": "20s",
                **both,
            }
            gateway = await stack.enter_async_context(there.part("gateway", **known))
            worker = await stack.enter_async_context(there.part("worker", **known, gateway_url=gateway.url))
            yield Scene(here, there, gateway, worker)


async def test_loopback_of_another_host_is_not_called_and_the_refusal_says_what_to_set(tmp_path: Path) -> None:
    async with scene(tmp_path, {}, {}) as on:
        port = int((await on.replica())["endpoints"][0].rsplit(":", 1)[1])
        async with on.there.impostor(port) as asked:
            async with asyncio.timeout(10):  # far below upstream_timeout and replica_wait: nothing is waited for
                body, status = await on.call()
                assert status == 503, body
                assert "replica_host" in body
                assert "replica_announce" in body
                call_id = await on.accept()
                await on.worker.logged("function cannot be called from this host")
                while not (record := await on.record(call_id))["attempts"]:
                    pass
            assert record["status"] == "retrying"
            assert record["attempts"][0]["status"] == 503
            assert "replica_announce" in on.gateway.log
            assert asked == []


async def test_replicas_are_called_at_the_address_that_is_announced(tmp_path: Path) -> None:
    announced = {"replica_host": "0.0.0.0", "replica_announce": "10.77.0.1"}
    async with scene(tmp_path, announced, {}) as on:
        assert (await on.replica())["endpoints"][0].startswith("http://10.77.0.1:")
        assert await on.call() == ("hello", 200)
        record = await on.record(await on.accept(), "20s")
        assert (record["status"], record["attempts"][0]["status"]) == ("succeeded", 200)


async def test_hosts_that_are_taken_for_one_still_believe_no_stranger(tmp_path: Path) -> None:
    async with scene(tmp_path, {}, {"host_id": "copied", "replica_wait": "3s"}) as on:
        port = int((await on.replica())["endpoints"][0].rsplit(":", 1)[1])
        async with on.there.impostor(port) as asked:
            body, status = await on.call()
            assert (status, "impostor" in body) == (502, False)
            call_id = await on.accept()
            async with asyncio.timeout(2):  # at once, and not after replica_wait
                await on.worker.logged("a call waits, no replica of its function can be called")
            while not (record := await on.record(call_id))["attempts"]:
                pass
            assert record["attempts"][0]["status"] == 503
            assert "is not cat.openfaas-fn/cat-" in record["attempts"][0]["error"]
            # It rests longer each time: some ten requests in three seconds, not thousands.
            assert 1 < len(asked) < 30
