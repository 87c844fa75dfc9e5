"""What happens when clients are slow, leave, or are many, and when the server stops."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from dataclasses import replace

import pytest

from holdfast.http1.server import Exchange, Limits, Server, serve
from tests.integration.http1.peers import PATIENCE_S, Client, Reader, Script, client, echo, happens, silent
from tests.integration.http1.test_server_requests import GET, POST, post

SOON = Limits(head_timeout_s=0.2, idle_timeout_s=0.2, body_timeout_s=0.2, write_timeout_s=0.2, linger_s=0.2)


async def no_connections(server: Server) -> None:
    """Return when the server has forgotten every connection."""
    async with asyncio.timeout(PATIENCE_S):
        while server.connections:
            await asyncio.sleep(0.01)


# ---- slow clients


async def test_a_head_that_takes_too_long_is_answered_408() -> None:
    app = echo()
    async with serve(app, limits=SOON) as server, client(server.port) as c:
        c.send(b"POST / HTTP/1.1\r\nHost:")
        answer = await c.answer()
        assert (answer.status, answer.body) == (408, b"No complete request head within 0.2 s.\n")
        assert await c.end() == b""
        assert app.begun.empty()


async def test_a_head_that_trickles_in_is_not_given_more_time() -> None:
    async with serve(echo(), limits=SOON) as server, client(server.port) as c:
        c.send(b"POST / HTTP/1.1\r\n")

        async def trickle() -> None:
            while True:
                c.send(b"A: b\r\n")
                await asyncio.sleep(0.02)

        trickling = asyncio.ensure_future(trickle())
        try:
            assert (await c.answer()).status == 408
        finally:
            trickling.cancel()


async def test_a_client_that_says_nothing_is_closed_without_a_word() -> None:
    async with serve(echo(), limits=SOON) as server:
        async with client(server.port) as c:
            assert await c.end() == b""
        async with client(server.port) as c:
            assert (await c.ask(post(b"hi"))).status == 200
            assert await c.end() == b""


async def test_a_body_that_pauses_too_long_is_answered_408() -> None:
    app = silent()
    async with serve(app, limits=SOON) as server:
        async with client(server.port) as c:
            c.send(POST + b"Content-Length: 10\r\n\r\nhalf")
            (await app.next()).collect(10, lambda ex, body: None)
            answer = await c.answer()
            assert answer.status == 408
            assert answer.body.startswith(b"The request body paused for more than 0.2 s or came slower than 500 ")
            await app.next_gone()
        async with client(server.port) as c:
            reader = Reader()
            c.send(POST + b"Content-Length: 10\r\n\r\nhalf")
            (await app.next()).stream(reader)
            await happens(reader.lost)
            assert (await c.answer()).status == 408


async def trickle(c: Client, *, until_s: float) -> float:
    """Send bytes one by one until the server says something; gives how long that took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    answered = asyncio.ensure_future(c.answer())
    while not answered.done() and loop.time() - began < until_s:
        c.send(b"x")
        await asyncio.wait([answered], timeout=0.02)
    assert (await answered).status == 408
    return loop.time() - began


async def test_a_body_that_trickles_in_is_not_given_more_time() -> None:
    limits = replace(SOON, body_timeout_s=0.4, min_body_rate=100_000)
    async with serve(echo(limit=10_000), limits=limits) as server, client(server.port) as c:
        c.send(POST + b"Content-Length: 10000\r\n\r\n")
        assert await trickle(c, until_s=PATIENCE_S) < PATIENCE_S


async def test_a_streamed_body_that_must_be_steady_is_not_given_more_time() -> None:
    limits = replace(SOON, body_timeout_s=0.4, min_body_rate=100_000)
    reader = Reader()
    app = Script(lambda exchange: exchange.stream(reader, steady=True))
    async with serve(app, limits=limits) as server, client(server.port) as c:
        c.send(POST + b"Content-Length: 10000\r\n\r\n")
        assert await trickle(c, until_s=PATIENCE_S) < PATIENCE_S


async def test_a_client_is_not_blamed_for_the_pauses_of_the_application() -> None:
    limits = replace(SOON, body_timeout_s=1.5, min_body_rate=100_000)
    reader = Reader()
    app = Script(lambda exchange: exchange.stream(reader, steady=True))
    async with serve(app, limits=limits) as server, client(server.port) as c:
        c.send(POST + b"Content-Length: 2\r\n\r\nh")
        exchange = await app.next()
        await happens(reader.more)
        exchange.pause_body()
        await asyncio.sleep(1.7)
        exchange.resume_body()
        await asyncio.sleep(0.2)  # several looks at the deadlines
        c.send(b"i")
        await happens(reader.ended)
        exchange.respond(204)
        assert (await c.answer()).status == 204


async def test_a_streamed_body_may_trickle_in() -> None:
    limits = replace(SOON, body_timeout_s=PATIENCE_S, min_body_rate=1_000_000)
    reader = Reader()
    app = Script(lambda exchange: exchange.stream(reader))
    async with serve(app, limits=limits) as server, client(server.port) as c:
        c.send(POST + b"Content-Length: 100\r\n\r\n")
        for _ in range(100):
            c.send(b"x")
            await asyncio.sleep(0.01)
        await happens(reader.ended)
        (await app.next()).respond(204)
        assert (await c.answer()).status == 204


async def test_an_application_may_take_its_time() -> None:
    app = silent()
    async with serve(app, limits=SOON) as server, client(server.port) as c:
        # Longer than every limit on clients, before the body is asked for, while it is paused, and before the answer.
        c.send(POST + b"Content-Length: 10\r\n\r\n")
        exchange = await app.next()
        await asyncio.sleep(0.5)
        reader = Reader()
        exchange.stream(reader)
        exchange.pause_body()
        await asyncio.sleep(0.5)
        exchange.resume_body()
        c.send(b"0123456789")
        await happens(reader.ended)
        await asyncio.sleep(0.5)
        exchange.respond(200)
        assert (await c.answer()).status == 200


async def test_a_client_that_does_not_read_its_answer_is_dropped() -> None:
    app = silent()
    async with serve(app, limits=SOON) as server, client(server.port, receive_buffer=4096) as c:
        c.send(GET)
        exchange = await app.next()
        exchange.respond(200, body=b"x" * 20_000_000)
        await no_connections(server)


async def test_a_client_that_reads_slowly_but_reads_is_kept() -> None:
    app = silent()
    limits = replace(SOON, write_timeout_s=1.0)
    async with serve(app, limits=limits) as server, client(server.port, receive_buffer=4096) as c:
        size = 20_000_000
        c.send(GET)
        (await app.next()).respond(200, body=b"x" * size)
        got = 0
        slowly_until = asyncio.get_running_loop().time() + 3.0
        # Three seconds in all, while the limit is one; the kernel takes nothing from us in that time.
        while asyncio.get_running_loop().time() < slowly_until:
            got += len(await c.some())
            await asyncio.sleep(0.02)
        assert got < size / 2
        while got <= size and (piece := await c.some()):
            got += len(piece)
        assert got > size


async def test_a_slow_reader_stops_a_streamed_answer_and_does_not_make_memory_grow() -> None:
    app = silent()
    paused, resumed = asyncio.Event(), asyncio.Event()
    async with serve(app) as server, client(server.port, receive_buffer=4096) as c:
        c.send(GET)
        exchange = await app.next()
        exchange.on_flow(paused.set, resumed.set)
        exchange.start(200, b"", None)
        written = 0
        while exchange.write(b"x" * 10_000):
            written += 10_000
            await asyncio.sleep(0)
        assert paused.is_set()
        # The kernel's send buffer, the client's, and our own 64 KiB.
        assert written < 8_000_000
        assert not resumed.is_set()
        reading = asyncio.ensure_future(c.end())
        await happens(resumed)
        exchange.end()
        c.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        (await app.next()).respond(204)
        assert len(await reading) > written


async def test_answers_that_nobody_reads_stop_the_requests_behind_them() -> None:
    begun = 0

    def begin(exchange: Exchange) -> None:
        nonlocal begun
        begun += 1
        exchange.respond(200, body=b"x" * 1_000_000)

    async with serve(Script(begin)) as server, client(server.port, receive_buffer=4096) as c:
        c.send(GET * 100)
        await c.some()
        await asyncio.sleep(0.2)
        assert begun < 20
        while begun < 100:
            assert await c.some()


# ---- clients that leave


@pytest.mark.parametrize("leave", [Client.leave, Client.reset])
async def test_a_client_that_leaves_during_upload_is_told_and_its_body_never_delivered(leave: object) -> None:
    app = silent()
    async with serve(app) as server:
        async with client(server.port) as c:
            c.send(POST + b"Content-Length: 10\r\n\r\nhalf")
            exchange = await app.next()
            exchange.collect(10, lambda ex, body: pytest.fail("delivered half a body"))
            leave(c)  # type: ignore[operator] # a method of Client
            assert await app.next_gone() is exchange
            exchange.respond(200)
        async with client(server.port) as c:
            reader = Reader()
            c.send(POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            (await app.next()).stream(reader)
            await happens(reader.more)
            leave(c)  # type: ignore[operator] # a method of Client
            await happens(reader.lost)
            await app.next_gone()


@pytest.mark.parametrize("leave", [Client.leave, Client.reset])
async def test_a_client_that_leaves_before_its_answer_is_told_at_once(leave: object) -> None:
    app = silent()
    async with serve(app) as server:
        async with client(server.port) as c:
            c.send(post(b"hi"))
            exchange = await app.next()
            delivered = asyncio.Event()
            exchange.collect(10, lambda ex, body: delivered.set())
            assert delivered.is_set()
            leave(c)  # type: ignore[operator] # a method of Client
            assert await app.next_gone() is exchange
        # Whatever is said now falls on deaf ears, and harms nobody.
        exchange.respond(200)
        exchange.start(200, b"", None)
        assert not exchange.write(b"x")
        exchange.end()
        exchange.abort()
        late = asyncio.Event()
        exchange.on_gone(late.set)
        assert late.is_set()
        reader = Reader()
        await no_connections(server)
        with pytest.raises(RuntimeError):
            exchange.stream(reader)


async def test_a_client_that_leaves_within_its_answer_is_told() -> None:
    app = silent()
    async with serve(app) as server:
        async with client(server.port) as c:
            c.send(GET)
            exchange = await app.next()
            exchange.start(200, b"", None)
            exchange.write(b"data")
            await c.some()
            c.leave()
            await app.next_gone()
        assert not exchange.write(b"more")
        exchange.end()


async def test_a_client_whose_answer_was_complete_is_not_reported_as_gone() -> None:
    app = echo()
    async with serve(app) as server:
        async with client(server.port) as c:
            assert (await c.ask(post(b"hi"))).status == 200
        await no_connections(server)
        assert app.gone.empty()


async def test_nothing_of_a_closed_connection_stays_in_memory() -> None:
    app = echo()
    async with serve(app) as server:
        async with client(server.port) as c:
            assert (await c.ask(post(b"hi"))).status == 200
            (connection,) = server._connections
            seen = weakref.ref(connection)
            del connection
        await no_connections(server)
        app.begun.get_nowait()
        await asyncio.sleep(0)
        gc.collect()
        assert seen() is None


# ---- many clients, and the end


async def test_connections_beyond_the_limit_are_refused_and_those_within_work() -> None:
    async with serve(echo(), limits=Limits(max_connections=2)) as server:
        async with client(server.port) as first, client(server.port) as second:
            assert (await first.ask(post(b"1"))).status == 200
            assert (await second.ask(post(b"2"))).status == 200
            async with client(server.port) as third:
                answer = await third.answer()
                assert (answer.status, answer[b"connection"]) == (503, b"close")
            assert (await first.ask(post(b"1"))).status == 200
        await no_connections(server)
        async with client(server.port) as c:
            assert (await c.ask(post(b"hi"))).status == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_beyond_what_all_may_hold_are_refused_until_others_are_answered(*, chunked: bool) -> None:
    app = Script(lambda exchange: exchange.collect(1000, lambda ex, body: collected.put_nowait((ex, body))))
    collected: asyncio.Queue[tuple[Exchange, bytes]] = asyncio.Queue()

    def sized(size: int) -> bytes:
        if not chunked:
            return post(b"x" * size)
        return POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)

    async with serve(app, limits=Limits(max_held_bytes=1000)) as server:
        async with client(server.port) as first, client(server.port) as second, client(server.port) as third:
            first.send(sized(600))
            exchange, body = await asyncio.wait_for(collected.get(), PATIENCE_S)
            assert len(body) == 600
            refused = await second.ask(sized(401))
            assert (refused.status, refused[b"retry-after"], refused[b"connection"]) == (503, b"1", b"close")
            assert b"1000 bytes" in refused.body
            third.send(sized(400))
            await asyncio.wait_for(collected.get(), PATIENCE_S)
            assert server.held_bytes == 1000
            exchange.respond(204)
            assert (await first.answer()).status == 204
            assert server.held_bytes == 400
            first.send(sized(600))
            await asyncio.wait_for(collected.get(), PATIENCE_S)
        # Whoever leaves holds nothing any more.
        await no_connections(server)
        assert server.held_bytes == 0


async def test_draining_closes_idle_connections_and_lets_exchanges_finish() -> None:
    app = silent()
    async with serve(app) as server, client(server.port) as idle, client(server.port) as busy:
        idle.send(GET)
        (await app.next()).respond(204)
        await idle.answer()
        busy.send(GET + GET)
        exchange = await app.next()
        draining = asyncio.ensure_future(server.drain(PATIENCE_S))
        assert await idle.end() == b""
        with pytest.raises(OSError, match=r".*"):
            await asyncio.open_connection("127.0.0.1", server.port)
        exchange.respond(200, body=b"1")
        (await app.next()).respond(200, body=b"2")
        assert [(await busy.answer()).body for _ in range(2)] == [b"1", b"2"]
        assert await busy.end() == b""
        await draining
        assert server.connections == 0


async def test_draining_says_close_and_cuts_what_takes_longer_than_its_grace() -> None:
    app = silent()
    async with serve(app) as server, client(server.port) as patient, client(server.port) as endless:
        patient.send(GET)
        answered = await app.next()
        endless.send(GET)
        await app.next()
        draining = asyncio.ensure_future(server.drain(0.3))
        await asyncio.sleep(0)
        answered.respond(200)
        assert (await patient.answer())[b"connection"] == b"close"
        await draining
        assert server.connections == 0
        await app.next_gone()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await endless.answer()


async def test_leaving_the_server_ends_every_connection() -> None:
    app = silent()
    async with serve(app) as server, client(server.port) as c:
        c.send(GET)
        await app.next()
    assert server.connections == 0
    with pytest.raises(OSError, match=r".*"):
        await asyncio.open_connection("127.0.0.1", server.port)


async def test_given_sockets_are_served() -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [sock.getsockname()[1] for sock in sockets]
    async with serve(echo(), sockets=sockets) as server:
        assert server.port == ports[0]
        for port in ports:
            async with client(port) as c:
                assert (await c.ask(post(b"hi"))).body == b"hi"


async def test_a_port_in_use_is_an_error_at_once() -> None:
    async with serve(echo()) as server:
        with pytest.raises(OSError, match=r"in use"):
            async with serve(echo(), port=server.port):
                pytest.fail("served twice")
