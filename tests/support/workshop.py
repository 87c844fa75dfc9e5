"""NATS, provider, gateway and worker as processes of their own with proxies between them, to be cut apart."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.support import parts
from tests.support.ledger import Balance, Fault, read_journal
from tests.support.nats import PASSWORD, USER, NatsServer
from tests.support.providers import provider
from tests.support.proxy import CuttingProxy, cutting_proxy
from tests.support.receiver import Receiver, receiver
from tests.support.scene import ENVIRON, settled, stack_file
from tests.support.traffic import KINDS, Kind, Traffic


class Workshop:
    """Get it from `workshop()`."""

    def __init__(
        self, folder: Path, callbacks: Receiver, *, gateway: CuttingProxy, worker: CuttingProxy, told: CuttingProxy
    ) -> None:
        self.folder = folder
        self.callbacks = callbacks
        self.gateway_link = gateway
        """Between gateway and NATS."""
        self.worker_link = worker
        """Between worker and NATS."""
        self.callback_link = told
        """Between worker and receiver."""
        self.faults: list[Fault] = []
        self.url = ""

    def traffic(self, seed: int, kinds: tuple[Kind, ...] = KINDS) -> Traffic:
        return Traffic(lambda: self.url, "journal", self.callback_link.url, seed=seed, kinds=kinds)

    async def balance(self, traffic: Traffic, timeout_s: float = 120) -> Balance:
        mine = traffic.sent.ids
        journal = self.folder / "journal"
        return await settled(
            traffic,
            self.callbacks,
            lambda: [run for run in read_journal(journal) if run.call_id in mine],
            self.faults,
            timeout_s,
        )


@contextlib.asynccontextmanager
async def workshop(folder: Path, server: NatsServer) -> AsyncIterator[Workshop]:
    """All parts, ready, on a server that runs."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        callbacks = await enter(receiver())
        gateway_link, worker_link = await enter(cutting_proxy(server.port)), await enter(cutting_proxy(server.port))
        port = urlsplit(callbacks.url).port
        assert port is not None
        shop = Workshop(
            folder, callbacks, gateway=gateway_link, worker=worker_link, told=await enter(cutting_proxy(port))
        )
        runtime = await enter(provider(stack_file(folder).read_text(), folder))
        await runtime.ready("journal")

        def nats(link: CuttingProxy) -> str:
            return f"nats://{USER}:{PASSWORD}@127.0.0.1:{link.port}"

        shop.url = (await enter(parts.gateway(nats(gateway_link), runtime.url, **ENVIRON))).url
        await enter(parts.worker(nats(worker_link), runtime.url, gateway_url=shop.url, **ENVIRON))
        yield shop
