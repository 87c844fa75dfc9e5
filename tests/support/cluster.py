"""Three nats-servers as one cluster, every connection between them and to them through a proxy, to be cut off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import nats

from holdfast.queue import embedded
from tests.support.nats import PASSWORD, START_TIMEOUT_S, USER, free_port
from tests.support.proxy import CuttingProxy, cutting_proxy

NODES = 3
LEADER_WITHIN_S = 30.0


class Node:
    """One server of the cluster."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.name = f"n{number}"
        self.port = free_port()
        self.route_port = free_port()
        self.folder = folder / self.name
        self.folder.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def write_config(self, routes: list[int]) -> None:
        listed = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        (self.folder / "nats.conf").write_text(
            f"server_name: {self.name}\nlisten: 127.0.0.1:{self.port}\nmax_payload: {embedded.MAX_PAYLOAD}\n"
            f"authorization {{ user: {USER}, password: {PASSWORD} }}\n"
            f'jetstream {{ store_dir: "{self.folder}" }}\n'
            f"cluster {{ name: three, listen: 127.0.0.1:{self.route_port}, no_advertise: true, routes: [{listed}] }}\n"
        )

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            argv = embedded.argv(embedded.find_binary(), self.folder / "nats.conf")
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Cluster:
    """Get it from `cluster()`."""

    def __init__(
        self, nodes: list[Node], doors: list[CuttingProxy], routes: dict[tuple[int, int], CuttingProxy]
    ) -> None:
        self.nodes = nodes
        self._doors = doors
        self._routes = routes

    @property
    def url(self) -> str:
        """All servers, through their doors."""
        return ",".join(f"nats://{USER}:{PASSWORD}@127.0.0.1:{door.port}" for door in self._doors)

    async def leader(self, stream: str, *, other_than: Node | None = None) -> Node:
        """The node that leads a stream, once there is one, as a node says that is not `other_than`."""
        async with asyncio.timeout(LEADER_WITHIN_S):
            while True:
                for node in self.nodes:
                    if node is not other_than and node.process is not None:
                        name = await self._leader_by(node, stream)
                        found = next((one for one in self.nodes if one.name == name), None)
                        if found is not None and found is not other_than:
                            return found
                await asyncio.sleep(0.1)

    async def _leader_by(self, node: Node, stream: str) -> str | None:
        url = f"nats://{USER}:{PASSWORD}@127.0.0.1:{node.port}"
        try:
            client = await nats.connect(url, allow_reconnect=False, connect_timeout=1, max_reconnect_attempts=1)
        except (nats.errors.Error, OSError, TimeoutError):
            return None
        try:
            info = await client.jetstream(timeout=1).stream_info(stream)
        except (nats.errors.Error, TimeoutError):
            return None
        finally:
            await client.close()
        return info.cluster.leader if info.cluster is not None else None

    def cut_off(self, node: Node) -> None:
        """No connection from or to the node works any more."""
        for link in self._links(node):
            link.take_down()

    def heal(self, node: Node) -> None:
        for link in self._links(node):
            link.heal()

    def _links(self, node: Node) -> list[CuttingProxy]:
        return [
            self._doors[node.number],
            *(link for pair, link in self._routes.items() if node.number in pair),
        ]


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """A cluster that is ready; its folders are removed afterwards."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-cluster-", ignore_cleanup_errors=True))
        )
        nodes = [Node(number, folder) for number in range(NODES)]
        routes: dict[tuple[int, int], CuttingProxy] = {}
        for node in nodes:
            for other in nodes:
                if other is not node:
                    route = await stack.enter_async_context(cutting_proxy(other.route_port))
                    routes[node.number, other.number] = route
            node.write_config([link.port for (start, _), link in routes.items() if start == node.number])
        doors = [await stack.enter_async_context(cutting_proxy(node.port)) for node in nodes]
        try:
            for node in nodes:
                node.start()
            for node in nodes:
                await embedded.wait_ready(node.port, timeout_s=START_TIMEOUT_S)
            yield Cluster(nodes, doors, routes)
        finally:
            for node in nodes:
                node.kill()
