"""What gateways and workers remember of a provider's functions."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from holdfast.directory import FORGET_S, FRESH_S, SAY_AFTER_S, Directory, ProviderUnavailable, directory
from holdfast.function import FunctionRef
from holdfast.http1.client import Answer, ClientPool, Origin
from tests.support.nats import free_port
from tests.support.providers import RunningProvider, provider

CAT = FunctionRef("cat")


class Stage(NamedTuple):
    provider: RunningProvider
    pool: ClientPool
    functions: Directory

    async def scale(self, replicas: int) -> None:
        answer = await self.provider.client.post("/system/scale-function/cat", json={"replicas": replicas})
        assert answer.status_code == 202


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    async with (
        provider("functions: {cat: {fprocess: cat}}", folder, provider_data=str(folder / "data")) as running,
        ClientPool() as pool,
        directory(pool, running.url, None) as functions,
    ):
        await running.ready("cat")
        yield Stage(running, pool, functions)


async def test_a_replica_that_was_not_asked_about_for_a_while_is_not_called(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        found = await on.functions.find(CAT)
        assert found is not None
        assert found.pick() is not None
        # Nobody calls it; meanwhile its port could become another function's.
        await asyncio.sleep(FRESH_S + FORGET_S + 0.1)
        known = on.functions.known(CAT)
        assert known is not None, "that it exists is still known"
        assert known.pick() is None
        again = await on.functions.ready(CAT, 10.0)
        assert again is not None
        assert again.pick() is not None


async def test_what_was_deployed_anew_or_removed_while_nobody_asked_is_seen_at_once(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.functions.find(CAT)
        document = {"service": "cat", "image": "c", "envProcess": "cat", "annotations": {"a": "new"}}
        assert (await on.provider.client.put("/system/functions", json=document)).status_code == 202
        await asyncio.sleep(FRESH_S + FORGET_S + 0.1)
        assert on.functions.recent(CAT) is None
        found = await on.functions.find(CAT)
        assert found is not None
        assert found.annotations == {"a": "new"}
        await on.provider.client.request("DELETE", "/system/functions", json={"functionName": "cat"})
        await asyncio.sleep(FRESH_S + FORGET_S + 0.1)
        assert await on.functions.find(CAT) is None


ODD_DOCUMENTS = [
    b"",
    b"null",
    b"7",
    b"[]",
    b"[1]",
    b'{"name":["odd"]}',
    b'"text"',
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"name":"odd","endpoints":5}',
    b'{"name":"odd","endpoints":[5]}',
    b'{"name":"odd","endpoints":["http://["]}',
    b'{"name":"odd","endpoints":["http://h:99999"]}',
    b'{"name":"odd","endpoints":["http://h"],"localEndpoints":[]}',
    b'{"name":"odd","endpoints":["http://h"],"localEndpoints":["nonsense"]}',
    b'{"name":"odd","annotations":[1]}',
    b'[{"name":["a"]},{"name":"odd"}]',
]


@pytest.mark.parametrize("document", ODD_DOCUMENTS, ids=lambda document: repr(document[:40]))
async def test_an_odd_document_of_a_provider_costs_one_look_up(document: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(document), document)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
        writer.close()

    odd, server = FunctionRef("odd"), await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, ClientPool() as pool:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with directory(pool, url, None) as functions:
            for _ in range(2):
                with contextlib.suppress(ProviderUnavailable):
                    await functions.find(odd)
                with contextlib.suppress(ProviderUnavailable):
                    await functions.ready(odd, 0.1)


class CountingPool(ClientPool):
    """Keeps the targets of what was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[bytes] = []

    async def fetch(self, origin: Origin, request: bytes, *, timeout_s: float, max_body_bytes: int) -> Answer:
        self.targets.append(request.split(b" ", 2)[1])
        return await super().fetch(origin, request, timeout_s=timeout_s, max_body_bytes=max_body_bytes)


async def test_functions_that_are_called_together_are_asked_for_together(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(5)]
    stack = "functions: {" + ", ".join(f"{name}: {{fprocess: cat}}" for name in names) + "}"
    refs = [FunctionRef(name) for name in names]
    async with (
        provider(stack, tmp_path, provider_data=str(tmp_path / "data")) as running,
        CountingPool() as pool,
        directory(pool, running.url, None) as functions,
    ):
        for ref in refs:
            await running.ready(ref.name)
            assert await functions.find(ref) is not None
        await running.client.request("DELETE", "/system/functions", json={"functionName": names[0]})
        document = {"service": names[1], "image": "c", "envProcess": "cat", "annotations": {"a": "new"}}
        assert (await running.client.put("/system/functions", json=document)).status_code == 202
        pool.targets.clear()
        async with asyncio.timeout(20):
            await asyncio.sleep(FRESH_S)
            while (entry := functions.known(refs[1])) is None or entry.annotations != {"a": "new"}:
                for ref in refs:
                    functions.known(ref)
                await asyncio.sleep(0.01)
        assert functions.known(refs[0]) is None, "it was removed"
        assert all(functions.known(ref) is not None for ref in refs[1:])
        assert len(pool.targets) <= 3, pool.targets


async def test_what_was_known_long_ago_is_given_while_the_provider_stands_still(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        before = await on.functions.find(CAT)
        await asyncio.sleep(FRESH_S + FORGET_S + 0.1)
        on.provider.process.send(signal.SIGSTOP)
        try:
            assert await on.functions.find(CAT) is before
        finally:
            on.provider.process.send(signal.SIGCONT)


async def test_all_who_wait_for_a_function_share_one_request_and_one_start(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.scale(0)
        entries = await asyncio.gather(*(on.functions.ready(CAT, 30.0) for _ in range(500)))
        assert all(entry is not None and entry.pick() is not None for entry in entries)
        assert on.pool.connections <= 2
        assert sum("a call waits" in line for line in on.provider.lines) == 1


async def test_who_gives_up_waiting_takes_nobody_with_him(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.functions.find(CAT)
        # It cannot start from now on, until its command is one.
        document = {"service": "cat", "image": "c", "envProcess": "cat", "envVars": {"mode": "http"}}
        assert (await on.provider.client.post("/system/functions", json=document)).status_code == 202
        await on.scale(0)
        await asyncio.sleep(FRESH_S + 0.1)
        patient = asyncio.create_task(on.functions.ready(CAT, 60.0))
        hasty = await on.functions.ready(CAT, 0.5)
        assert hasty is not None
        assert hasty.pick() is None
        document = {"service": "cat", "image": "c", "envProcess": "cat"}
        assert (await on.provider.client.post("/system/functions", json=document)).status_code == 202
        entry = await patient
        assert entry is not None
        assert entry.pick() is not None


async def test_a_wait_for_a_replica_is_logged_as_it_begins_with_the_reason_and_once(tmp_path: Path) -> None:
    stack = "functions: {never: {fprocess: sleep 1000, environment: {mode: http}}}"
    async with (
        provider(stack, tmp_path, provider_data=str(tmp_path / "data")) as running,
        ClientPool() as pool,
        directory(pool, running.url, None) as functions,
    ):
        ref = FunctionRef("never")
        assert await functions.find(ref) is not None
        with capture_logs() as lines:
            waiting = [asyncio.create_task(functions.ready(ref, 2.0)) for _ in range(10)]
            await asyncio.sleep(SAY_AFTER_S + 0.5)
            said = [line for line in lines if line["event"].startswith("a call waits")]
            assert [(line["function"], line["log_level"]) for line in said] == [("never.openfaas-fn", "warning")]
            assert said[0]["reason"].startswith("none of its 1 replicas is ready")
            for entry in await asyncio.gather(*waiting):
                assert entry is not None
                assert entry.origins == ()


async def test_a_wait_for_the_provider_itself_is_logged_as_it_begins() -> None:
    async with ClientPool() as pool, directory(pool, f"http://127.0.0.1:{free_port()}", None) as functions:
        with capture_logs() as lines, pytest.raises(ProviderUnavailable):
            await functions.ready(CAT, 1.0)
    said = [line for line in lines if line["event"].startswith("a call waits")]
    assert len(said) == 1
    assert "the provider cannot be asked" in said[0]["reason"]
