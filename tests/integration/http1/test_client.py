"""The client pool against peers that behave and peers that do not (cases.md 23)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from holdfast.errors import (
    AnswerMalformed,
    AnswerTimedOut,
    AnswerTooLarge,
    ConnectFailed,
    ConnectionLost,
    PeerError,
)
from holdfast.headers import RawHeaders
from holdfast.http1.client import Answer, BodyFraming, ClientPool, Flight, Origin, Receiver
from holdfast.http1.message import message_of_lines, request_message
from tests.integration.http1.peers import PATIENCE_S, Peer, happens, ok, peer

TLS = Path(__file__).parent / "localhost.pem"


def get(origin: Origin, target: bytes = b"/a", method: bytes = b"GET") -> bytes:
    return request_message(method, target, [(b"Host", origin.netloc)], b"")


def upload_head(origin: Origin, length: int | None) -> bytes:
    """The head of a POST whose body of so many bytes, or of chunks, follows."""
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    return message_of_lines(b"POST", b"/up", b"Host: %b\r\n%b\r\n" % (origin.netloc, framing))


@pytest.fixture
async def pool() -> AsyncIterator[ClientPool]:
    async with ClientPool() as pool:
        yield pool


async def fetch(pool: ClientPool, origin: Origin, request: bytes | None = None, *, timeout_s: float = 10) -> Answer:
    return await pool.fetch(origin, request or get(origin), timeout_s=timeout_s, max_body_bytes=1000)


class Receiving(Receiver):
    """A receiver that writes down what it hears."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: RawHeaders = []
        self.body = b""
        self.error: PeerError | None = None
        self.headed, self.more, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def head(self, status: int, headers: RawHeaders) -> None:
        assert not self.headed.is_set()
        self.status = status
        self.headers = headers
        self.headed.set()

    def data(self, chunk: bytes) -> None:
        assert chunk
        assert not self.over.is_set()
        self.body += chunk
        self.more.set()

    def end(self) -> None:
        assert not self.over.is_set()
        self.over.set()

    def failed(self, error: PeerError) -> None:
        assert not self.over.is_set()
        self.error = error
        self.over.set()


def answering(answer: bytes, *, then_close: bool = False) -> Callable[[Peer], object]:
    """A peer that answers every request so."""

    async def serve(p: Peer) -> None:
        while True:
            await p.request()
            p.send(answer)
            if then_close:
                return

    return serve


# ---- keeping connections


async def test_a_request_is_sent_as_given_and_its_answer_given_as_sent(pool: ClientPool) -> None:
    async def serve(p: Peer) -> None:
        assert await p.reader.readexactly(len(sent)) == sent
        p.send(ok(b"\x00\xff", b"x-a: 1", b"X-B:\xe4 ", b"X-A: 2"))

    async with peer(serve) as origin:
        sent = request_message(b"POST", b"/a%2F?b=%00", [(b"Host", origin.netloc), (b"x", b"1"), (b"X", b"2")], b"\x00")
        answer = await fetch(pool, origin, sent)
    assert answer == Answer(
        200, [(b"x-a", b"1"), (b"X-B", b"\xe4"), (b"X-A", b"2"), (b"Content-Length", b"2")], b"\x00\xff"
    )


async def test_a_connection_is_used_again_and_the_youngest_first(pool: ClientPool) -> None:
    async def serve(p: Peer) -> None:
        while True:
            request = await p.request()
            if request.target == b"/wait":
                await asyncio.wait_for(both.wait(), PATIENCE_S)
            p.send(ok(b"%d" % p.number))

    both = asyncio.Event()
    async with peer(serve) as origin:
        assert [(await fetch(pool, origin)).body for _ in range(3)] == [b"1"] * 3
        first = asyncio.ensure_future(fetch(pool, origin, get(origin, b"/wait")))
        await asyncio.sleep(0)
        assert (await fetch(pool, origin)).body == b"2"
        both.set()
        assert (await first).body == b"1"
        assert pool.idle == 2
        # Connection 1 came back last.
        assert (await fetch(pool, origin)).body == b"1"


async def test_no_more_connections_are_kept_than_said() -> None:
    async def serve(p: Peer) -> None:
        while True:
            await p.request()
            await asyncio.wait_for(go.wait(), PATIENCE_S)
            p.send(ok(b""))

    go = asyncio.Event()
    async with ClientPool(max_idle_per_origin=2) as pool, peer(serve) as origin:
        fetching = [asyncio.ensure_future(fetch(pool, origin)) for _ in range(5)]
        async with asyncio.timeout(PATIENCE_S):
            while pool.connections < 5:
                await asyncio.sleep(0.01)
        go.set()
        await asyncio.gather(*fetching)
        assert pool.idle == 2


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    closed = asyncio.Event()

    async def serve(p: Peer) -> None:
        await p.request()
        p.send(ok(b""))
        await p.left()
        closed.set()

    async with ClientPool(idle_timeout_s=0.1) as pool, peer(serve) as origin:
        await fetch(pool, origin)
        await happens(closed)
        assert pool.idle == 0


async def test_an_idle_connection_that_the_peer_closes_is_forgotten(pool: ClientPool) -> None:
    async with peer(answering(ok(b""), then_close=True)) as origin:  # type: ignore[arg-type] # a coroutine function
        for _ in range(3):
            assert (await fetch(pool, origin)).status == 200
            async with asyncio.timeout(PATIENCE_S):
                while pool.connections:
                    await asyncio.sleep(0.01)
        assert pool._idle == {}


@pytest.mark.parametrize("extra", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
async def test_bytes_that_nobody_asked_for_never_become_an_answer(pool: ClientPool, extra: bytes) -> None:
    async def serve(p: Peer) -> None:
        await p.request()
        p.send(ok(b"%d" % p.number) + (extra if p.number == 1 else b""))
        if p.number == 2:
            await asyncio.wait_for(idle.wait(), PATIENCE_S)
            p.send(extra)
        await p.left()

    idle = asyncio.Event()
    async with peer(serve) as origin:
        assert (await fetch(pool, origin)).body == b"1"
        assert pool.idle == 0
        assert (await fetch(pool, origin)).body == b"2"
        assert pool.idle == 1
        idle.set()
        async with asyncio.timeout(PATIENCE_S):
            while pool.connections:
                await asyncio.sleep(0.01)
        assert (await fetch(pool, origin)).body == b"3"


async def test_a_peer_that_closes_after_its_answer_is_believed(pool: ClientPool) -> None:
    async with peer(answering(ok(b"", b"Connection: close"))) as origin:  # type: ignore[arg-type] # as above
        for _ in range(2):
            assert (await fetch(pool, origin)).status == 200
            assert pool.idle == 0


# ---- kept connections that turn out dead


class Stale:
    """Answers the first request of a connection; ends the connection on the second one."""

    def __init__(self, end: Callable[[Peer], None], partial: bytes = b"", *, forever: bool = False) -> None:
        self.requests = 0
        self._end = end
        self._partial = partial
        self._forever = forever

    async def serve(self, p: Peer) -> None:
        for number in (1, 2):
            await p.request()
            self.requests += 1
            if number == 2 or (self._forever and p.number > 1):
                p.send(self._partial)
                await p.writer.drain()
                self._end(p)
                return
            p.send(ok(b"%d" % p.number))


@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
async def test_a_kept_connection_that_is_dead_is_replaced_by_a_fresh_one(
    pool: ClientPool, end: Callable[[Peer], None]
) -> None:
    stale = Stale(end)
    async with peer(stale.serve) as origin:
        assert (await fetch(pool, origin)).body == b"1"
        assert (await fetch(pool, origin)).body == b"2"
        assert stale.requests == 3


async def test_it_is_replaced_once(pool: ClientPool) -> None:
    stale = Stale(Peer.close, forever=True)
    async with peer(stale.serve) as origin:
        assert (await fetch(pool, origin)).body == b"1"
        with pytest.raises(ConnectionLost):
            await fetch(pool, origin)
        assert stale.requests == 3


async def test_a_request_that_must_not_be_repeated_is_not(pool: ClientPool) -> None:
    stale = Stale(Peer.close)
    async with peer(stale.serve) as origin:
        assert (await fetch(pool, origin)).body == b"1"
        receiving = Receiving()
        pool.send(origin, get(origin), receiving, timeout_s=10, replayable=False)
        await happens(receiving.over)
        assert isinstance(receiving.error, ConnectionLost)
        assert stale.requests == 2


async def test_after_a_single_byte_of_an_answer_a_request_is_not_repeated(pool: ClientPool) -> None:
    stale = Stale(Peer.close, b"H")
    async with peer(stale.serve) as origin:
        assert (await fetch(pool, origin)).body == b"1"
        with pytest.raises(ConnectionLost, match="within the answer"):
            await fetch(pool, origin)
        assert stale.requests == 2


async def test_a_fresh_connection_that_ends_without_a_byte_is_lost(pool: ClientPool) -> None:
    requests = 0

    async def serve(p: Peer) -> None:
        nonlocal requests
        await p.request()
        requests += 1

    async with peer(serve) as origin:
        with pytest.raises(ConnectionLost, match="before the answer") as caught:
            await fetch(pool, origin)
        assert requests == 1
        assert caught.value.origin == str(origin)


# ---- answers


@pytest.mark.parametrize(
    "half",
    [
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
async def test_an_early_end_is_a_failure_and_not_a_short_result(pool: ClientPool, half: bytes) -> None:
    async with peer(answering(half, then_close=True)) as origin:  # type: ignore[arg-type] # as above
        with pytest.raises(ConnectionLost):
            await fetch(pool, origin)


async def test_an_answer_without_framing_ends_with_the_connection(pool: ClientPool) -> None:
    for head in (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\n"):
        async with peer(answering(head + b"whole", then_close=True)) as origin:  # type: ignore[arg-type] # as above
            assert (await fetch(pool, origin)).body == b"whole"
            assert pool.idle == 0


async def test_but_not_with_a_reset(pool: ClientPool) -> None:
    async def serve(p: Peer) -> None:
        await p.request()
        p.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await asyncio.wait_for(receiving.more.wait(), PATIENCE_S)
        p.reset()

    receiving = Receiving()
    async with peer(serve) as origin:
        pool.send(origin, get(origin), receiving, timeout_s=10)
        await happens(receiving.over)
        assert isinstance(receiving.error, ConnectionLost)


async def test_interim_answers_are_skipped(pool: ClientPool) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    async with peer(answering(interim + ok(b"final"))) as origin:  # type: ignore[arg-type] # as above
        for _ in range(2):
            assert (await fetch(pool, origin)).body == b"final"
        assert pool.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 200_000,
    ],
)
async def test_what_is_not_an_http_answer_is_malformed(pool: ClientPool, answer: bytes) -> None:
    async with peer(answering(answer)) as origin:  # type: ignore[arg-type] # as above
        with pytest.raises(AnswerMalformed, match=r"127\.0\.0\.1"):
            await fetch(pool, origin)


VALID = [
    ok(b"whole"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nwhole\r\n0\r\nX: 1\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\nX: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nwhole",
]


def damaged(dice: random.Random) -> bytes:
    """A valid answer with a few bytes taken out, put in or changed; sometimes only bytes."""
    if dice.random() < 0.1:
        return dice.randbytes(dice.randrange(200))
    data = bytearray(dice.choice(VALID))
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(data))
        data[at : at + dice.randrange(3)] = dice.choice(
            [b"", b"\r", b"\n", b"\r\n", b"0", b"9", b":", b";", dice.randbytes(2)]
        )
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
async def test_damaged_answers_end_in_an_answer_or_an_error_and_leave_nothing(pool: ClientPool, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - for a test that can be repeated

    async def serve(p: Peer) -> None:
        for _ in range(dice.randrange(1, 4)):
            await p.request()
            data = damaged(dice)
            cut = dice.randrange(len(data) + 1)
            p.send(data[:cut])
            await asyncio.sleep(0)
            p.send(data[cut:])

    async with peer(serve) as origin:
        for _ in range(10):
            ends = await asyncio.gather(
                *(fetch(pool, origin, timeout_s=0.2) for _ in range(10)), return_exceptions=True
            )
            for end in ends:
                assert isinstance(end, Answer | PeerError), end
    async with asyncio.timeout(PATIENCE_S):
        while pool.connections > pool.idle:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_without_a_body_keeps_the_connection(pool: ClientPool, status: bytes) -> None:
    answer = b"HTTP/1.1 %b\r\nContent-Length: 5\r\n\r\n" % status
    async with peer(answering(answer)) as origin:  # type: ignore[arg-type] # as above
        for _ in range(3):
            got = await fetch(pool, origin)
            assert (got.status, got.body) == (int(status[:3]), b"")
        assert pool.connections == 1


async def test_a_body_where_none_may_be_spoils_the_connection_but_not_the_answer(pool: ClientPool) -> None:
    answer = b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"
    async with peer(answering(answer)) as origin:  # type: ignore[arg-type] # as above
        for _ in range(3):
            assert (await fetch(pool, origin)).body == b""
            assert pool.idle == 0


async def test_an_answer_to_head_has_no_body(pool: ClientPool) -> None:
    async def serve(p: Peer) -> None:
        while True:
            request = await p.request()
            p.send(ok(b"hello")[: -5 if request.method == b"HEAD" else None])

    async with peer(serve) as origin:
        for method, body in ((b"HEAD", b""), (b"GET", b"hello")) * 2:
            assert (await fetch(pool, origin, get(origin, method=method))).body == body
        assert pool.connections == 1


async def test_redirects_are_answers(pool: ClientPool) -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with peer(answering(answer)) as origin:  # type: ignore[arg-type] # as above
        got = await fetch(pool, origin)
        assert (got.status, got.headers[0]) == (302, (b"Location", b"/elsewhere"))


async def test_proxies_of_the_environment_are_not_used(pool: ClientPool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with peer(answering(ok(b"direct"))) as origin:  # type: ignore[arg-type] # as above
        assert (await fetch(pool, origin)).body == b"direct"


@pytest.mark.parametrize("head", [b"", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 1001\r\n"])
async def test_an_endless_body_is_cut(pool: ClientPool, head: bytes) -> None:
    closed = asyncio.Event()

    async def serve(p: Peer) -> None:
        await p.request()
        p.send(b"HTTP/1.1 200 OK\r\n%b\r\n" % head)
        try:
            while True:
                p.send(b"64\r\n" + b"x" * 100 + b"\r\n")
                await p.writer.drain()
                if head.startswith(b"Content"):
                    await p.left()
                    return
                await asyncio.sleep(0)
        finally:
            closed.set()

    async with peer(serve) as origin:
        if head.startswith(b"Content"):
            with pytest.raises(AnswerTooLarge):
                await pool.fetch(origin, get(origin), timeout_s=10, max_body_bytes=50)
        else:
            with pytest.raises(AnswerTooLarge) as caught:
                await fetch(pool, origin)
            assert caught.value.limit == 1000
        await happens(closed)
        assert pool.idle == 0


# ---- connecting, waiting, giving up


async def test_a_refused_connection_is_a_failure_to_connect(pool: ClientPool) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # not listening
        origin = Origin("127.0.0.1", bound.getsockname()[1])
        with pytest.raises(ConnectFailed, match="could be made") as caught:
            await fetch(pool, origin)
        assert caught.value.origin == f"http://127.0.0.1:{origin.port}"


async def test_a_name_that_cannot_exist_is_a_failure_to_connect(pool: ClientPool) -> None:
    with pytest.raises(ConnectFailed):
        await fetch(pool, Origin("a" * 70 + ".invalid", 80))


async def test_connecting_has_a_limit_of_its_own() -> None:
    with socket.socket() as full, contextlib.ExitStack() as fillers:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        origin = Origin("127.0.0.1", full.getsockname()[1])
        # Fill the accept queue: the kernel lets further connections wait.
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with ClientPool(connect_timeout_s=0.1) as pool:
            with pytest.raises(ConnectFailed, match=r"within 0\.(1|09\d*) s"):
                await fetch(pool, origin)
        async with ClientPool() as pool:
            with pytest.raises(ConnectFailed, match=r"within 0\.(1|09\d*) s"):
                await fetch(pool, origin, timeout_s=0.1)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"])
async def test_an_answer_has_to_be_complete_in_time(pool: ClientPool, begun: bytes) -> None:
    closed = asyncio.Event()

    async def serve(p: Peer) -> None:
        await p.request()
        p.send(begun)
        trickle = asyncio.ensure_future(p.left())
        while not trickle.done():
            if begun:
                p.send(b"x")
            await asyncio.sleep(0.02)
        closed.set()

    async with peer(serve) as origin:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(AnswerTimedOut) as caught:
            await fetch(pool, origin, timeout_s=0.2)
        assert loop.time() - began >= 0.19  # uvloop counts milliseconds
        assert caught.value.timeout_s == 0.2
        await happens(closed)


async def test_a_short_timeout_counts_among_long_ones(pool: ClientPool) -> None:
    async def serve(p: Peer) -> None:
        while True:
            request = await p.request()
            if request.target == b"/a":
                p.send(ok(b""))

    async with peer(serve) as origin:
        await fetch(pool, origin, timeout_s=1000)
        slow = asyncio.ensure_future(fetch(pool, origin, get(origin, b"/never"), timeout_s=1000))
        await asyncio.sleep(0)
        await fetch(pool, origin, timeout_s=1000)
        with pytest.raises(AnswerTimedOut):
            await asyncio.wait_for(fetch(pool, origin, get(origin, b"/never"), timeout_s=0.1), PATIENCE_S)
        slow.cancel()


async def test_cancelling_closes_the_connection(pool: ClientPool) -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def serve(p: Peer) -> None:
        await p.request()
        asked.set()
        await p.left()
        closed.set()

    async with peer(serve) as origin:
        fetching = asyncio.ensure_future(fetch(pool, origin))
        await happens(asked)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await happens(closed)
        assert pool.idle == 0


async def test_cancelling_while_connecting_leaves_nothing_behind(pool: ClientPool) -> None:
    async with peer(answering(ok(b""))) as origin:  # type: ignore[arg-type] # as above
        receiving = Receiving()
        flight = pool.send(origin, get(origin), receiving, timeout_s=10)
        flight.cancel()
        flight.cancel()
        assert (await fetch(pool, origin)).status == 200
        assert not receiving.over.is_set()
        assert pool.connections == 1


async def test_closing_the_pool_fails_what_is_in_flight() -> None:
    asked = asyncio.Event()

    async def serve(p: Peer) -> None:
        await p.request()
        asked.set()
        await p.left()

    waiting, connecting = Receiving(), Receiving()
    async with peer(serve) as origin:
        async with ClientPool() as pool:
            pool.send(origin, get(origin), waiting, timeout_s=10)
            await happens(asked)
            pool.send(origin, get(origin), connecting, timeout_s=10)
        assert isinstance(waiting.error, ConnectionLost)
        assert isinstance(connecting.error, ConnectFailed)
        assert pool.connections == 0
        with pytest.raises(RuntimeError, match="not open"):
            pool.send(origin, get(origin), waiting, timeout_s=10)


async def test_a_receiver_that_raises_hears_that_its_answer_failed_and_harms_nobody(pool: ClientPool) -> None:
    class Raising(Receiving):
        def head(self, status: int, headers: RawHeaders) -> None:
            raise LookupError("a bug")

    class RaisingAtTheEnd(Receiving):
        def end(self) -> None:
            self.over.set()
            raise LookupError("a bug")

    async with peer(answering(ok(b"hi"))) as origin:  # type: ignore[arg-type] # as above
        raising = Raising()
        pool.send(origin, get(origin), raising, timeout_s=10)
        await happens(raising.over)
        assert isinstance(raising.error, ConnectionLost)
        late = RaisingAtTheEnd()
        pool.send(origin, get(origin), late, timeout_s=10)
        await happens(late.over)
        assert (await fetch(pool, origin)).body == b"hi"


async def test_the_next_request_can_be_sent_from_the_end_of_an_answer(pool: ClientPool) -> None:
    class Again(Receiving):
        def end(self) -> None:
            if self.left:
                again = Again()
                again.left = self.left - 1
                pool.send(origin, get(origin), again, timeout_s=10)
            else:
                done.set()

        left = 50

    done = asyncio.Event()
    async with peer(answering(ok(b"x" * 100))) as origin:  # type: ignore[arg-type] # as above
        pool.send(origin, get(origin), Again(), timeout_s=10)
        await happens(done)
        assert pool.connections == 1


# ---- streaming


async def test_a_paused_receiver_stops_the_peer(pool: ClientPool) -> None:
    size = 8_000_000
    stuck = asyncio.Event()

    async def serve(p: Peer) -> None:
        await p.request()
        p.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        p.send(b"x" * size)
        try:
            await asyncio.wait_for(p.writer.drain(), 0.3)
        except TimeoutError:
            stuck.set()
        await p.writer.drain()
        await p.left()

    class Pausing(Receiving):
        def head(self, status: int, headers: RawHeaders) -> None:
            super().head(status, headers)
            flight.pause()

    receiving = Pausing()
    async with peer(serve) as origin:
        flight = pool.send(origin, get(origin), receiving, timeout_s=60)
        await happens(stuck)
        assert len(receiving.body) < 1_000_000
        flight.resume()
        await happens(receiving.over)
        assert receiving.error is None
        assert len(receiving.body) == size


async def uploaded(
    pool: ClientPool, origin: Origin, framing: BodyFraming, pieces: list[bytes]
) -> tuple[Receiving, Flight]:
    """Stream a body as the peer takes it."""
    receiving, flowing = Receiving(), asyncio.Event()
    length = None if framing is BodyFraming.CHUNKED else sum(map(len, pieces))
    head = upload_head(origin, length)
    flight = pool.send(origin, head, receiving, timeout_s=60, body=framing)
    flight.on_flow(flowing.clear, flowing.set)
    for piece in pieces:
        await happens(flowing)
        flight.write(piece)
    flight.end_body()
    return receiving, flight


@pytest.mark.parametrize("framing", [BodyFraming.LENGTH, BodyFraming.CHUNKED])
async def test_a_streamed_body_arrives_whole_and_the_connection_is_kept(pool: ClientPool, framing: BodyFraming) -> None:
    async def serve(p: Peer) -> None:
        while True:
            request = await p.request()
            p.send(ok(b"%d" % len(request.body)))

    async with peer(serve) as origin:
        for _ in range(2):
            receiving, _ = await uploaded(pool, origin, framing, [b"x" * 10_000] * 300)
            await happens(receiving.over)
            assert receiving.body == b"3000000"
            assert pool.idle == 1
            # Nor did it take the kept one, and two are not hoarded.
            assert pool.connections <= 2
            assert (await fetch(pool, origin)).body == b"0"


async def test_a_peer_that_does_not_read_stops_the_upload(pool: ClientPool) -> None:
    read = asyncio.Event()
    paused = asyncio.Event()

    async def serve(p: Peer) -> None:
        await p.head()
        await asyncio.wait_for(read.wait(), PATIENCE_S)
        await p.left()

    async with peer(serve) as origin:
        flowing, receiving = asyncio.Event(), Receiving()
        head = upload_head(origin, None)
        flight = pool.send(origin, head, receiving, timeout_s=60, body=BodyFraming.CHUNKED)
        with pytest.raises(RuntimeError, match="not made yet"):
            flight.write(b"too early")
        flight.on_flow(paused.set, flowing.set)
        await happens(flowing)
        flowing.clear()
        written = 0
        while flight.write(b"x" * 10_000):
            written += 10_000
            await asyncio.sleep(0)
        assert written < 30_000_000
        assert paused.is_set()
        read.set()
        await happens(flowing)
        flight.cancel()


async def test_an_answer_before_the_end_of_the_upload_is_given_and_the_connection_closed(pool: ClientPool) -> None:
    async def serve(p: Peer) -> None:
        await p.head()
        p.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n")
        await p.left()

    async with peer(serve) as origin:
        receiving, flowing = Receiving(), asyncio.Event()
        head = upload_head(origin, 1000)
        flight = pool.send(origin, head, receiving, timeout_s=60, body=BodyFraming.LENGTH)
        flight.on_flow(flowing.clear, flowing.set)
        await happens(receiving.over)
        assert (receiving.status, receiving.body) == (413, b"no\n")
        assert pool.idle == 0
        assert flight.write(b"too late")
        flight.end_body()


# ---- TLS


@pytest.fixture
async def tls_origin() -> AsyncIterator[Origin]:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline() not in {b"\r\n", b""}:
            pass
        writer.write(ok(b"secret", b"Connection: close"))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS)
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    async with server:
        yield Origin("localhost", server.sockets[0].getsockname()[1], tls=True)


async def test_https_peers_are_checked_and_called(tls_origin: Origin) -> None:
    async with ClientPool(tls=ssl.create_default_context(cafile=str(TLS))) as pool:
        assert (await fetch(pool, tls_origin)).body == b"secret"
        with pytest.raises(ConnectFailed, match="certificate"):
            await fetch(pool, tls_origin._replace(host="127.0.0.1"))
    async with ClientPool() as pool:
        with pytest.raises(ConnectFailed, match="certificate"):
            await fetch(pool, tls_origin)
