"""An exchange forwarded to an origin: what travels, what breaks, and that nothing piles up on the way."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import psutil
import pytest

from holdfast.errors import ConnectFailed, PeerError
from holdfast.http1.client import ClientPool, Flight, Origin
from holdfast.http1.relay import CLIENT_LEFT, COLLECT_UP_TO, Dropped, relay
from holdfast.http1.server import Exchange, Limits, Server, serve
from tests.integration.http1.peers import PATIENCE_S, Client, Peer, client, happens, ok, peer

GET = b"GET /a HTTP/1.1\r\nHost: gateway\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: gateway\r\n"


class Relaying:
    """A server that relays everything to one origin."""

    def __init__(self, origin: Origin, pool: ClientPool, *, timeout_s: float | None) -> None:
        self.origin = origin
        self.pool = pool
        self.server: Server
        self.timeout_s = timeout_s
        self.done: asyncio.Queue[int] = asyncio.Queue()
        self.unreachable: Callable[[Exchange, PeerError], bool] | None = None

    def begin(self, exchange: Exchange) -> None:
        self.relay(exchange, self.origin)

    def relay(self, exchange: Exchange, origin: Origin) -> None:
        unreachable = self.unreachable
        relay(
            exchange,
            self.pool,
            origin,
            target=b"/f" + exchange.target,
            dropped=Dropped.besides((b"X-Call-Id", b"X-Forwarded-Host", b"Authorization"), (b"X-Call-Id",)),
            request_lines=b"X-Call-Id: 1\r\nX-Forwarded-Host: %b\r\n" % (exchange.header(b"host") or b""),
            answer_lines=b"X-Call-Id: 1\r\n",
            timeout_s=self.timeout_s,
            done=self.done.put_nowait,
            unreachable=None if unreachable is None else lambda error: unreachable(exchange, error),
        )

    async def status(self) -> int:
        """What the next exchange ended with."""
        return await asyncio.wait_for(self.done.get(), PATIENCE_S)


@contextlib.asynccontextmanager
async def relaying(
    behind: Callable[[Peer], Awaitable[None]] | Origin, *, timeout_s: float | None = 10, limits: Limits | None = None
) -> AsyncIterator[tuple[Relaying, Client]]:
    """A relay in front of `behind`, and a client in front of the relay."""
    async with contextlib.AsyncExitStack() as stack:
        origin = behind if isinstance(behind, Origin) else await stack.enter_async_context(peer(behind))
        pool = await stack.enter_async_context(ClientPool())
        app = Relaying(origin, pool, timeout_s=timeout_s)
        app.server = await stack.enter_async_context(serve(app, limits=limits))
        c = await stack.enter_async_context(client(app.server.port))
        yield app, c
        await asyncio.sleep(0)
        assert app.done.empty(), "done was called more often than it should"


async def test_a_call_goes_through_and_back() -> None:
    async def function(p: Peer) -> None:
        while True:
            request = await p.request()
            assert (request.method, request.target, request.body) == (b"POST", b"/f/a", b"\x00\xff")
            p.send(ok(b"\xfe", b"x-b: 1", b"Set-Cookie: a", b"Set-Cookie: b", b"Date: Thu, 01 Jan 1970 00:00:00 GMT"))

    async with relaying(function) as (app, c):
        for _ in range(3):
            answer = await c.ask(POST + b"Content-Length: 2\r\n\r\n\x00\xff")
            assert (answer.status, answer.body) == (200, b"\xfe")
            assert answer.headers == [
                (b"x-b", b"1"),
                (b"Set-Cookie", b"a"),
                (b"Set-Cookie", b"b"),
                (b"Date", b"Thu, 01 Jan 1970 00:00:00 GMT"),
                (b"X-Call-Id", b"1"),
                (b"Content-Length", b"1"),
            ]
            assert await app.status() == 200
        assert app.pool.connections == 1


async def test_headers_of_a_hop_do_not_travel_and_ours_cannot_be_forged() -> None:
    async def function(p: Peer) -> None:
        request = await p.request()
        assert request.headers == [
            (b"Host", app.origin.netloc),
            (b"Accept", b"*/*"),
            (b"x-dup", b"1"),
            (b"X-Dup", b"\xe4"),
            (b"X-Call-Id", b"1"),
            (b"X-Forwarded-Host", b"gateway"),
            (b"Content-Length", b"2"),
        ]
        p.send(
            b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Call-Id: forged\r\n"
            b"Trailer: X\r\nTransfer-Encoding: chunked\r\nX-Fine: 1\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        )
        await p.left()

    async with relaying(function) as (app, c):
        answer = await c.ask(
            POST + b"Accept: */*\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nx-dup: 1\r\n"
            b"Upgrade: h2c\r\nProxy-Connection: x\r\nKeep-Alive: x\r\nX-Dup: \xe4\r\nx-call-id: forged\r\n"
            b"Authorization: secret\r\nContent-Length: 2\r\n\r\nhi"
        )
        assert answer.body == b"hi"
        assert answer.names() == [b"x-fine", b"x-call-id", b"content-length", b"date"]
        assert answer[b"x-call-id"] == b"1"
        assert await app.status() == 200


async def test_a_small_call_is_one_write_each_way() -> None:
    async def function(p: Peer) -> None:
        # One write arrives as one segment on loopback.
        assert (await p.reader.read(65536)).endswith(b"\r\n\r\nhello")
        p.send(ok(b"hi"))
        await p.left()

    async with relaying(function) as (app, c):
        c.send(POST + b"Content-Length: 5\r\n\r\nhello")
        assert (await c.some()).endswith(b"\r\n\r\nhi")
        assert await app.status() == 200


async def test_events_pass_as_they_come() -> None:
    more: asyncio.Queue[bytes] = asyncio.Queue()

    async def function(p: Peer) -> None:
        await p.request()
        p.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while event := await more.get():
            p.send(b"%x\r\n%b\r\n" % (len(event), event))
        p.send(b"0\r\n\r\n")
        await p.left()

    async with relaying(function) as (app, c):
        c.send(GET)
        assert b"text/event-stream" in await c.some()
        for number in range(3):
            more.put_nowait(b"data: %d\n\n" % number)
            assert await c.some() == b"9\r\ndata: %d\n\n\r\n" % number
        more.put_nowait(b"")
        assert await c.some() == b"0\r\n\r\n"
        assert await app.status() == 200


@pytest.mark.parametrize("method", [b"HEAD", b"GET", b"DELETE", b"OPTIONS"])
async def test_other_methods_go_through(method: bytes) -> None:
    async def function(p: Peer) -> None:
        while True:
            request = await p.request()
            assert (request.method, request.body) == (method, b"")
            assert b"content-length" not in [name.lower() for name, _ in request.headers]
            p.send(ok(b"hello")[: -5 if method == b"HEAD" else None])

    async with relaying(function) as (app, c):
        for _ in range(2):
            c.send(GET.replace(b"GET", method))
            answer = await c.answer(head_only=method == b"HEAD")
            assert answer[b"content-length"] == b"5"
            assert await app.status() == 200


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified", b"302 Found", b"500 Oops", b"799 Odd"])
async def test_every_status_goes_through(status: bytes) -> None:
    async def function(p: Peer) -> None:
        await p.request()
        length = b"" if status[:3] in {b"204", b"304"} else b"Content-Length: 0\r\n"
        p.send(b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 %b\r\nLocation: /x\r\n%b\r\n" % (status, length))
        await p.left()

    async with relaying(function) as (app, c):
        answer = await c.ask(GET)
        assert answer.status == int(status[:3])
        assert answer[b"location"] == b"/x"
        assert await app.status() == int(status[:3])


# ---- what breaks


async def refusing() -> Origin:
    """An origin that refuses connections."""
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return Origin("127.0.0.1", port)


@pytest.mark.parametrize(
    "request_",
    [GET, POST + b"Content-Length: 2\r\n\r\nhi", POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"],
)
async def test_an_origin_that_cannot_be_reached_is_a_502(request_: bytes) -> None:
    async with relaying(await refusing()) as (app, c):
        answer = await c.ask(request_)
        assert answer.status == 502
        assert answer.body == b"The server behind this path cannot be reached: try again shortly.\n"
        assert answer[b"x-call-id"] == b"1"
        assert await app.status() == 502


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", b"garbage\r\n"])
async def test_an_origin_that_does_not_answer_in_http_is_a_502(said: bytes) -> None:
    async def function(p: Peer) -> None:
        await p.request()
        p.send(said)

    async with relaying(function) as (app, c):
        assert (await c.ask(GET)).status == 502
        assert await app.status() == 502
        # The client's connection is fine.
        assert (await c.ask(GET)).status == 502
        assert await app.status() == 502


async def test_an_origin_that_is_too_slow_is_a_504() -> None:
    async def function(p: Peer) -> None:
        await p.request()
        await p.left()
        left.set()

    left = asyncio.Event()
    async with relaying(function, timeout_s=0.1) as (app, c):
        answer = await c.ask(GET)
        assert (answer.status, answer.body) == (504, b"The server behind this path did not answer within 0.1 s.\n")
        assert await app.status() == 504
        await happens(left)


@pytest.mark.parametrize("timeout_s", [0.2, 10])
@pytest.mark.parametrize(
    "framing", [b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", b"Content-Length: 9\r\n\r\nhalf"]
)
async def test_an_answer_that_breaks_does_not_look_whole(timeout_s: float, framing: bytes) -> None:
    async def function(p: Peer) -> None:
        await p.request()
        p.send(b"HTTP/1.1 200 OK\r\n" + framing)
        if timeout_s < 1:
            await p.left()

    async with relaying(function, timeout_s=timeout_s) as (app, c):
        c.send(GET)
        everything = await c.end()
        assert everything.startswith(b"HTTP/1.1 200 OK")
        assert everything.endswith(framing.partition(b"\r\n\r\n")[2])
        assert await app.status() == (504 if timeout_s < 1 else 502)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"])
async def test_a_client_that_leaves_frees_the_function(begun: bytes) -> None:
    asked, freed = asyncio.Event(), asyncio.Event()

    async def function(p: Peer) -> None:
        await p.request()
        p.send(begun)
        asked.set()
        await p.left()
        freed.set()

    async with relaying(function) as (app, c):
        c.send(GET)
        await happens(asked)
        if begun:
            await c.some()
        c.leave()
        await happens(freed)
        assert await app.status() == 499


async def test_a_client_that_leaves_during_upload_never_calls_the_function() -> None:
    async def function(p: Peer) -> None:
        await p.head()
        pytest.fail("called with half a body")

    async with relaying(function) as (app, c):
        c.send(POST + b"Content-Length: 10\r\n\r\nhalf")
        await asyncio.sleep(0.05)
        c.leave()
        assert await app.status() == 499
        assert app.pool.connections == 0


@pytest.mark.skipif(sys.platform != "linux", reason="an end behind unread bytes is Linux's to tell")
@pytest.mark.parametrize("size", [1000, COLLECT_UP_TO + 1])
@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_for_a_client_that_has_left_before_it_was_read_the_function_is_not_called(size: int, how: str) -> None:
    called: list[bytes] = []

    async def behind(p: Peer) -> None:
        called.append((await p.request()).body)
        p.send(ok(b"done"))

    async with relaying(behind) as (app, c):
        with socket.create_connection(("127.0.0.1", app.server.port)) as sock:
            # In one turn of the loop, which reads nothing meanwhile.
            sock.sendall(POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
            if how == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.send(POST + b"Content-Length: 5\r\n\r\nafter")
        assert (await c.answer()).body == b"done"
        while (status := await app.status()) != 200:
            assert status == CLIENT_LEFT  # not told of one that was reset before it was accepted
    assert called == [b"after"]


async def test_a_kept_connection_that_is_dead_is_replaced() -> None:
    async def function(p: Peer) -> None:
        request = await p.request()
        p.send(ok(request.body))
        await p.request()

    async with relaying(function) as (app, c):
        for _ in range(3):
            assert (await c.ask(GET)).body == b""
            assert await app.status() == 200


async def test_a_post_is_not_sent_again_when_its_origin_dies_under_it() -> None:
    requests = 0

    async def function(p: Peer) -> None:
        nonlocal requests
        while True:
            request = await p.request()
            requests += 1
            if requests == 2:
                return
            p.send(ok(request.body))

    async with relaying(function) as (app, c):
        assert (await c.ask(POST + b"Content-Length: 2\r\n\r\nhi")).body == b"hi"
        assert await app.status() == 200
        assert (await c.ask(POST + b"Content-Length: 2\r\n\r\nhi")).status == 502
        assert await app.status() == 502
    assert requests == 2


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 2\r\n\r\nhi",
        POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        POST + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000,
    ],
)
async def test_an_unreachable_origin_can_be_replaced_by_another(request_: bytes) -> None:
    async def function(p: Peer) -> None:
        request = await p.request()
        p.send(ok(b"%d" % len(request.body)))
        await p.left()

    errors = []

    def look_again(exchange: Exchange, error: PeerError) -> bool:
        errors.append(error)
        asyncio.get_running_loop().call_later(0.05, app.relay, exchange, reachable)
        return True

    async with peer(function) as reachable, relaying(await refusing()) as (app, c):
        app.unreachable = look_again
        answer = await c.ask(request_)
        if answer.status == 100:
            answer = await c.answer()
        assert answer.body in {b"2", b"100000"}
        assert [type(error) for error in errors] == [ConnectFailed]
        assert await app.status() == 200


async def test_a_client_that_leaves_while_another_origin_is_looked_for_is_reported_once() -> None:
    looking = asyncio.Event()
    kept: list[Exchange] = []

    def look_again(exchange: Exchange, error: PeerError) -> bool:
        kept.append(exchange)
        looking.set()
        return True

    async with relaying(await refusing()) as (app, c):
        app.unreachable = look_again
        c.send(GET)
        await happens(looking)
        c.leave()
        async with asyncio.timeout(PATIENCE_S):
            while app.server.connections:
                await asyncio.sleep(0.01)
        assert app.done.empty()
        app.relay(kept[0], app.origin)
        assert await app.status() == 499


# ---- streaming


@pytest.mark.parametrize("framing", [b"chunked", b"length"])
async def test_a_streamed_body_arrives_as_it_is_sent(framing: bytes) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def function(p: Peer) -> None:
        head = await p.head()
        assert (b"Transfer-Encoding: chunked" in head) == (framing == b"chunked")
        while data := await p.reader.read(65536):
            got.put_nowait(data)
            if data.endswith((b"end", b"0\r\n\r\n")):
                p.send(ok(b"fine"))

    async with relaying(function) as (app, c):
        if framing == b"chunked":
            c.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
            c.send(b"5\r\nfirst\r\n")
            assert await asyncio.wait_for(got.get(), PATIENCE_S) == b"5\r\nfirst\r\n"
            c.send(b"0\r\n\r\n")
        else:
            c.send(POST + b"Content-Length: 100008\r\n\r\n")
            c.send(b"first")
            assert await asyncio.wait_for(got.get(), PATIENCE_S) == b"first"
            c.send(b"x" * 100_000 + b"end")
        assert (await c.answer()).body == b"fine"
        assert await app.status() == 200


async def test_the_go_ahead_comes_when_the_origin_is_reached() -> None:
    async def function(p: Peer) -> None:
        request = await p.request()
        p.send(ok(b"%d" % len(request.body)))
        await p.left()

    size = COLLECT_UP_TO + 1
    head = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % size
    async with relaying(function) as (app, c):
        assert (await c.ask(head)).status == 100
        assert (await c.ask(b"x" * size)).body == b"%d" % size
        assert await app.status() == 200
    async with relaying(await refusing()) as (app, c):
        assert (await c.ask(head)).status == 502
        assert await app.status() == 502


async def test_an_answer_before_the_end_of_the_upload_reaches_the_client() -> None:
    async def function(p: Peer) -> None:
        await p.head()
        p.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n")
        await p.left()

    async with relaying(function) as (app, c):
        c.send(POST + b"Content-Length: 10000000\r\n\r\n" + b"x" * 1000)
        answer = await c.answer()
        assert (answer.status, answer.body) == (403, b"no\n")
        assert await app.status() == 403


async def test_an_upload_that_breaks_the_protocol_is_refused_and_the_function_freed() -> None:
    freed = asyncio.Event()

    async def function(p: Peer) -> None:
        await p.head()
        await p.left()
        freed.set()

    async with relaying(function) as (app, c):
        c.send(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await asyncio.sleep(0.05)
        c.send(b"zz\r\n")
        assert (await c.answer()).status == 400
        await happens(freed)
        assert await app.status() == 499


def memory() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


SIZE = 50 * 1024 * 1024
PIECE = b"x" * 65536
# Kernel buffers do not count; the relay's own, the test's, and what the allocator keeps do.
FLAT = 16 * 1024 * 1024


async def test_a_large_upload_to_a_slow_function_does_not_make_memory_grow() -> None:
    async def function(p: Peer) -> None:
        await p.head()
        got = 0
        while got < SIZE:
            got += len(await p.reader.read(256 * 1024))
            if got < 3_000_000:
                await asyncio.sleep(0.01)
        assert got == SIZE
        p.send(ok(b"all"))
        await p.left()

    async with relaying(function) as (app, c):
        c.send(POST + b"Content-Length: %d\r\n\r\n" % SIZE)
        before = most = memory()
        async with asyncio.timeout(PATIENCE_S * 3):
            for _ in range(SIZE // len(PIECE)):
                c.send(PIECE)
                await c.writer.drain()
                most = max(most, memory())
        assert (await c.answer()).body == b"all"
        assert await app.status() == 200
        assert most - before < FLAT


async def test_a_large_answer_to_a_slow_client_does_not_make_memory_grow() -> None:
    async def function(p: Peer) -> None:
        await p.request()
        p.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for _ in range(SIZE // len(PIECE)):
            p.send(PIECE)
            await p.writer.drain()
        await p.left()

    async with relaying(function, timeout_s=None) as (app, c):
        c.send(GET)
        await c.reader.readuntil(b"\r\n\r\n")
        before = most = memory()
        got = 0
        async with asyncio.timeout(PATIENCE_S * 3):
            while got < SIZE:
                got += len(await c.reader.read(256 * 1024))
                most = max(most, memory())
                if got < 3_000_000:
                    await asyncio.sleep(0.01)
        assert got == SIZE
        assert await app.status() == 200
        assert most - before < FLAT


async def test_calls_leave_nothing_to_the_garbage_collector() -> None:
    async def function(p: Peer) -> None:
        while True:
            await p.request()
            p.send(ok(b"hi"))

    async with relaying(function) as (app, c):
        for _ in range(10):
            await c.ask(POST + b"Content-Length: 2\r\n\r\nhi")
            await app.status()
        gc.collect()
        before = alive()
        gc.disable()
        try:
            for _ in range(100):
                await c.ask(POST + b"Content-Length: 2\r\n\r\nhi")
                await app.status()
            assert alive() - before < 10
        finally:
            gc.enable()


def alive() -> int:
    """How many exchanges and flights are in memory."""
    return sum(type(thing) in {Exchange, Flight} for thing in gc.get_objects())
