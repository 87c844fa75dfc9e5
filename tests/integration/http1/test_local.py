"""A peer on the same machine: calls by its Unix socket are calls like others, and its port is there when it is not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from holdfast import sockets
from holdfast.errors import ConnectFailed, ConnectionLost, PeerError
from holdfast.http1.client import BodyFraming, ClientPool, Origin
from holdfast.http1.message import message_of_lines, request_message
from holdfast.http1.relay import Dropped, relay
from holdfast.http1.server import Exchange, Server, serve
from tests.integration.http1.peers import PATIENCE_S, client, happens

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="abstract Unix sockets are Linux's")


class Echo:
    """Answers with what it gets; `/wait` when it is told to, `/stream` as it comes."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.gone = asyncio.Event()
        self.count = 0
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self, exchange: Exchange) -> None:
        self.count += 1
        exchange.on_gone(self.gone.set)
        if exchange.target == b"/stream":
            exchange.on_flow(exchange.pause_body, exchange.resume_body)
            exchange.stream(Through(exchange))
        else:
            exchange.collect(1_000_000, self._answer)

    def _answer(self, exchange: Exchange, body: bytes) -> None:
        self.begun.set()
        if exchange.target == b"/wait":
            self.tasks.append(asyncio.get_running_loop().create_task(self._later(exchange, body)))
        else:
            exchange.respond(200, b"", body)

    async def _later(self, exchange: Exchange, body: bytes) -> None:
        await happens(self.go)
        exchange.respond(200, b"", body)


class Through:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def body_data(self, data: bytes) -> None:
        exchange = self._exchange
        if not exchange.answered:
            exchange.start(200, b"", exchange.content_length)
        exchange.write(data)

    def body_end(self) -> None:
        self._exchange.end()

    def body_lost(self) -> None:
        pass


class Serving:
    def __init__(self, server: Server, app: Echo, origin: Origin, local: socket.socket) -> None:
        self.server = server
        self.app = app
        self.origin = origin
        self.local = local


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Serving]:
    """A server that listens as a watchdog does. Whoever starts it keeps its sockets, as the provider does."""
    port = sockets.listen("127.0.0.1", 0, purpose="test", option="none")
    local = sockets.listen_local()
    assert local is not None
    app = Echo()
    origin = Origin("127.0.0.1", sockets.port_of(port), local=sockets.local_name(sockets.local_url(local)))
    with local:
        async with serve(app, sockets=[port, local.dup()]) as server:
            yield Serving(server, app, origin, local)
        for task in app.tasks:
            task.cancel()
        await asyncio.gather(*app.tasks, return_exceptions=True)


def post(origin: Origin, target: bytes, body: bytes) -> bytes:
    return request_message(b"POST", target, [(b"Host", origin.netloc)], body)


async def ask(pool: ClientPool, origin: Origin, target: bytes, body: bytes) -> bytes:
    request = post(origin, target, body)
    answer = await pool.fetch(origin, request, timeout_s=PATIENCE_S, max_body_bytes=10_000_000)
    assert answer.status == 200
    return answer.body


def tcp_connections(server: Server) -> int:
    return sum(bool(connection.client_host) for connection in server._connections)


async def test_calls_take_the_socket_and_connections_are_kept() -> None:
    async with serving() as there, ClientPool() as pool:
        bodies = [b"%d" % number for number in range(200)]
        for _ in range(3):
            answers = await asyncio.gather(*(ask(pool, there.origin, b"/", body) for body in bodies))
            assert answers == bodies
        assert pool.connections == pool.idle == 200
        assert tcp_connections(there.server) == 0
    assert pool.connections == 0


async def test_bodies_stream_both_ways_under_back_pressure() -> None:
    body = bytes(range(256)) * 40_000
    async with serving() as there, ClientPool() as pool:

        class Relaying:
            def begin(self, exchange: Exchange) -> None:
                relay(
                    exchange,
                    pool,
                    there.origin,
                    target=b"/stream",
                    dropped=Dropped(),
                    request_lines=b"",
                    answer_lines=b"",
                    timeout_s=PATIENCE_S,
                    done=statuses.put_nowait,
                )

        statuses: asyncio.Queue[int] = asyncio.Queue()
        async with serve(Relaying()) as front, client(front.port) as c:
            c.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
            sending = asyncio.create_task(_send(c.writer, body))
            assert (await c.answer()).body == body
            await sending
            assert await asyncio.wait_for(statuses.get(), PATIENCE_S) == 200


async def _send(writer: asyncio.StreamWriter, body: bytes) -> None:
    for at in range(0, len(body), 100_000):
        writer.write(body[at : at + 100_000])
        await writer.drain()


async def test_a_cancelled_call_ends_its_stream_and_the_function_hears_it() -> None:
    async with serving() as there, ClientPool() as pool:
        assert await ask(pool, there.origin, b"/", b"before") == b"before"
        call = asyncio.create_task(ask(pool, there.origin, b"/wait", b""))
        await happens(there.app.begun)
        call.cancel()
        await happens(there.app.gone)
        assert await ask(pool, there.origin, b"/", b"after") == b"after"


async def test_a_server_that_drains_ends_what_runs_and_looks_at_nothing_more() -> None:
    async with serving() as there, ClientPool() as pool:
        running = asyncio.create_task(ask(pool, there.origin, b"/wait", b"x"))
        await happens(there.app.begun)
        # The socket stays with its owner: what comes now waits for the next process, or here for its time.
        draining = asyncio.create_task(there.server.drain(PATIENCE_S))
        await asyncio.sleep(0)
        refused = post(there.origin, b"/", b"late")
        with pytest.raises(PeerError):
            await pool.fetch(there.origin, refused, timeout_s=0.2, max_body_bytes=100)
        assert there.app.count == 1
        there.app.go.set()
        assert await running == b"x"
        await draining


async def test_a_socket_that_nobody_holds_any_more_is_passed_by() -> None:
    async with serving() as there, ClientPool() as pool:
        gone = sockets.listen_local()
        assert gone is not None
        origin = there.origin._replace(local=sockets.local_name(sockets.local_url(gone)))
        gone.close()
        assert await ask(pool, origin, b"/", b"by port") == b"by port"
        assert tcp_connections(there.server) == 1


async def test_a_peer_that_dies_loses_the_calls_under_way_as_by_port() -> None:
    async with ClientPool() as pool:
        async with serving() as there:
            call = asyncio.create_task(ask(pool, there.origin, b"/wait", b""))
            await happens(there.app.begun)
            there.server._cut()
            with pytest.raises(ConnectionLost):
                await call
        with pytest.raises(ConnectFailed):
            await ask(pool, there.origin, b"/", b"")


async def test_an_upload_that_the_peer_refuses_early_is_answered() -> None:
    async with serving() as there, ClientPool() as pool:
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        class Status:
            def head(self, status: int, headers: object) -> None:
                done.set_result(status)

            def data(self, chunk: bytes) -> None:
                pass

            def more_to_come(self) -> None:
                pass

            def end(self) -> None:
                pass

            def failed(self, error: Exception) -> None:
                if not done.done():
                    done.set_result(error)

        head = message_of_lines(b"POST", b"/", b"Host: a\r\nContent-Length: 2000000\r\n")
        flight = pool.send(there.origin, head, Status(), timeout_s=PATIENCE_S, body=BodyFraming.LENGTH)
        flight.on_flow(lambda: None, lambda: None)
        assert await asyncio.wait_for(done, PATIENCE_S) == 413
