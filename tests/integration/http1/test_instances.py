"""A peer that is named: requests say who is meant, and nobody else's answer is believed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from holdfast.errors import AnswerMalformed, PeerError, WrongPeer
from holdfast.http1.client import Answer, ClientPool, Origin
from holdfast.http1.message import message_of_lines
from holdfast.http1.relay import Dropped, relay
from holdfast.http1.server import Exchange, serve
from tests.integration.http1.peers import PATIENCE_S, client

MEANT = "echo.openfaas-fn/echo-1a2b3c/0011223344556677"
PROOF = b"X-Holdfast-Instance: %b\r\n" % MEANT.encode()


class Named:
    """Proves who it is to whoever names somebody, as a watchdog does, and answers with the body."""

    def __init__(self, answer_lines: bytes = b"") -> None:
        self.seen: list[bytes | None] = []
        self._lines = answer_lines

    def begin(self, exchange: Exchange) -> None:
        self.seen.append(exchange.header(b"x-holdfast-instance"))
        if self.seen[-1] is not None:
            exchange.prove(PROOF)
        exchange.collect(1_000, lambda exchange, body: exchange.respond(200, self._lines, body))


async def ask(pool: ClientPool, origin: Origin, body: bytes = b"x") -> Answer:
    message = message_of_lines(b"POST", b"/", origin.lines + b"Content-Length: %d\r\n" % len(body), body)
    return await pool.fetch(origin, message, timeout_s=PATIENCE_S, max_body_bytes=1_000)


def named(port: int) -> Origin:
    return Origin("127.0.0.1", port, instance=MEANT)


async def test_every_request_names_who_is_meant_and_each_connection_is_proven_once() -> None:
    app = Named()
    async with serve(app) as server, ClientPool() as pool:
        answers = [await ask(pool, named(server.port)) for _ in range(3)]
        assert app.seen == [MEANT.encode()] * 3
        assert pool.connections == 1
        for answer in answers:
            assert answer.body == b"x"
            assert b"x-holdfast-instance" not in {name.lower() for name, _ in answer.headers}
        async with client(server.port) as raw:
            request = b"POST / HTTP/1.1\r\nHost: a\r\nX-Holdfast-Instance: %b\r\nContent-Length: 0\r\n\r\n"
            first, second = [await raw.ask(request % MEANT.encode()) for _ in range(2)]
            assert first[b"x-holdfast-instance"] == MEANT.encode()
            assert b"x-holdfast-instance" not in second.names()


async def test_who_names_nobody_is_told_no_name() -> None:
    async with serve(Named()) as server, client(server.port) as raw:
        answer = await raw.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert b"x-holdfast-instance" not in answer.names()


async def test_an_answer_that_the_server_itself_gives_is_proven_too() -> None:
    async with serve(Named()) as server, ClientPool() as pool:
        assert (await ask(pool, named(server.port), b"y" * 1_001)).status == 413


@pytest.mark.parametrize("lines", [b"", b"X-Holdfast-Instance: another/one/of-them\r\n"])
async def test_the_answer_of_a_stranger_on_the_port_is_not_believed(lines: bytes) -> None:
    class Stranger:
        def begin(self, exchange: Exchange) -> None:
            exchange.collect(1_000, lambda exchange, _body: exchange.respond(200, lines, b"hello"))

    async with serve(Stranger()) as server, ClientPool() as pool:
        with pytest.raises(WrongPeer, match=f"answered 200 and is not {MEANT}"):
            await ask(pool, named(server.port))
        assert pool.idle == 0


@contextlib.asynccontextmanager
async def speaking(words: bytes) -> AsyncIterator[int]:
    """A port where somebody says this to whoever comes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(words)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", WrongPeer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: no\r\n\r\n", WrongPeer),
        # A head that is too large may be the function's own: that is no sign of a stranger.
        (b"HTTP/1.1 200 OK\r\n" + PROOF + b"X-Large: " + b"y" * 200_000, AnswerMalformed),
    ],
)
async def test_a_stranger_that_speaks_something_else_is_told_from_a_function_that_fails(
    words: bytes, error: type[PeerError]
) -> None:
    async with speaking(words) as port, ClientPool() as pool:
        with pytest.raises(error):
            await ask(pool, named(port))


async def test_a_function_cannot_answer_in_the_name_of_another() -> None:
    forged = b"X-Holdfast-Instance: forged\r\n"
    async with serve(Named(forged)) as server, ClientPool() as pool:
        answer = await ask(pool, named(server.port))
        assert (answer.status, answer.body) == (200, b"x")
        assert b"x-holdfast-instance" not in {name.lower() for name, _ in answer.headers}


async def test_a_relayed_answer_of_a_stranger_reaches_no_caller() -> None:
    class Stranger:
        def begin(self, exchange: Exchange) -> None:
            exchange.respond(200, b"", b"hello")

    done: asyncio.Queue[int] = asyncio.Queue()
    async with serve(Stranger()) as stranger, ClientPool() as pool:

        class Front:
            def begin(self, exchange: Exchange) -> None:
                relay(
                    exchange,
                    pool,
                    named(stranger.port),
                    target=b"/",
                    dropped=Dropped(),
                    request_lines=b"",
                    answer_lines=b"",
                    timeout_s=PATIENCE_S,
                    done=done.put_nowait,
                )

        async with serve(Front()) as front, client(front.port) as raw:
            answer = await raw.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            assert answer.status == await done.get() == 502
            assert b"cannot be reached" in answer.body
