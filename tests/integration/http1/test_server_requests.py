"""Requests and answers over real sockets: bodies, keeping alive, pipelining, refusals."""

from __future__ import annotations

import asyncio
import random
import re

import pytest

from holdfast.http1.message import header_lines
from holdfast.http1.server import Exchange, Limits, serve
from tests.integration.http1.peers import Got, Reader, Script, client, echo, happens, silent

POST = b"POST /a HTTP/1.1\r\nHost: h\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


def post(body: bytes, *lines: bytes) -> bytes:
    head = b"".join(line + b"\r\n" for line in lines)
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (POST, head, len(body), body)


async def test_a_request_is_answered_and_the_connection_kept() -> None:
    async with serve(echo()) as server, client(server.port) as c:
        for body in (b"one", b"", b"\x00\xff" * 100):
            answer = await c.ask(post(body))
            assert (answer.status, answer.body) == (200, body)
            assert b"connection" not in answer.names()
            assert re.fullmatch(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", answer[b"date"])


async def test_the_application_sees_what_was_sent() -> None:
    app = silent()
    async with serve(app) as server, client(server.port) as c:
        c.send(
            b"POST /a%2Fb/../c//?x=%00&&x=+ HTTP/1.1\r\nhOsT: h\r\nx-a: 1\r\nX-B:\xe4\xf6 \xc3\xa4  \r\n"
            b"X-A: 2\r\nx-a:\r\nContent-Length: 2\r\n\r\nhi"
        )
        exchange = await app.next()
        assert exchange.method == b"POST"
        assert exchange.target == b"/a%2Fb/../c//?x=%00&&x=+"
        assert exchange.headers == [
            (b"hOsT", b"h"),
            (b"x-a", b"1"),
            (b"X-B", b"\xe4\xf6 \xc3\xa4"),
            (b"X-A", b"2"),
            (b"x-a", b""),
            (b"Content-Length", b"2"),
        ]
        assert exchange.header(b"x-a") == b"1"
        assert exchange.header(b"x-c") is None
        assert (exchange.content_length, exchange.chunked, exchange.version) == (2, False, "1.1")
        assert exchange.client_host == "127.0.0.1"


async def test_bytes_one_by_one_are_the_same_request() -> None:
    async with serve(echo()) as server, client(server.port) as c:
        for byte in post(b"hello", b"X-A: b"):
            c.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await c.answer()).body == b"hello"


async def test_a_chunked_body_is_collected() -> None:
    async with serve(echo()) as server, client(server.port) as c:
        c.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        c.send(b"4;x=y\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n")
        assert (await c.answer()).body == b"abcdefg"
        assert (await c.ask(post(b"next"))).body == b"next"


async def test_a_body_too_large_is_refused_before_it_is_read() -> None:
    app = echo(limit=1000)
    async with serve(app) as server, client(server.port) as c:
        answer = await c.ask(POST + b"Content-Length: 1001\r\n\r\n")
        assert (answer.status, answer.body) == (413, b"The request body is larger than the limit of 1000 bytes.\n")
        assert answer[b"connection"] == b"close"
        await app.next_gone()
        assert await c.end() == b""


async def test_a_chunked_body_too_large_is_refused_while_it_is_read() -> None:
    app = echo(limit=1000)
    async with serve(app) as server, client(server.port) as c:
        chunk = b"1f4\r\n" + b"x" * 500 + b"\r\n"
        answer = await c.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3)
        assert answer.status == 413
        await app.next_gone()
        assert await c.end() == b""


async def test_a_refused_client_that_still_sends_reads_the_answer() -> None:
    async with serve(echo(limit=1000)) as server, client(server.port) as c:
        c.send(POST + b"Content-Length: 30000000\r\n\r\n")
        # Without lingering, the kernel would answer these bytes with a reset and drop the 413.
        for _ in range(100):
            c.send(b"x" * 100_000)
        assert (await c.answer()).status == 413


async def test_expect_is_answered_only_when_the_application_wants_the_body() -> None:
    app = silent()
    async with serve(app) as server, client(server.port) as c:
        c.send(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        exchange = await app.next()
        exchange.collect(1000, lambda ex, body: ex.respond(200, body=body))
        assert (await c.answer()).status == 100
        assert (await c.ask(b"hello")).body == b"hello"
        # And again on the same connection, streamed.
        c.send(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        reader = Reader()
        exchange = await app.next()
        exchange.stream(reader)
        assert (await c.answer()).status == 100
        c.send(b"hello")
        await happens(reader.ended)
        exchange.respond(204)
        assert (await c.answer()).status == 204


async def test_a_refusal_comes_instead_of_the_go_ahead() -> None:
    app = Script(lambda exchange: exchange.respond(404))
    async with serve(app) as server, client(server.port) as c:
        answer = await c.ask(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert answer.status == 404
        assert answer[b"connection"] == b"close"
    async with serve(echo(limit=3)) as server, client(server.port) as c:
        assert (await c.ask(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")).status == 413


async def test_a_body_that_is_there_already_needs_no_go_ahead() -> None:
    async with serve(echo()) as server, client(server.port) as c:
        assert (await c.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")).status == 200
        c.send(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
        first = await c.answer()
        assert first.status in {100, 200}
        if first.status == 100:
            assert (await c.answer()).body == b"hello"


async def test_pipelined_requests_are_answered_in_their_order_one_at_a_time() -> None:
    app = silent()
    async with serve(app) as server, client(server.port) as c:
        c.send(post(b"1") + GET + post(b"3"))
        first = await app.next()
        assert app.begun.empty()
        first.respond(200, body=b"first")
        second = await app.next()
        assert app.begun.empty()
        second.start(200, b"", None)
        second.write(b"sec")
        assert second.write(b"ond")
        assert app.begun.empty()
        second.end()
        third = await app.next()
        third.collect(10, lambda ex, body: ex.respond(200, body=body))
        assert [(await c.answer()).body for _ in range(3)] == [b"first", b"second", b"3"]


async def test_thousands_of_requests_in_one_write_are_all_answered() -> None:
    async with serve(echo()) as server, client(server.port) as c:
        c.send(b"".join(post(b"%d" % number) for number in range(3000)))
        for number in range(3000):
            assert (await c.answer()).body == b"%d" % number


async def test_no_more_than_so_many_requests_wait_behind_an_unanswered_one() -> None:
    app = silent()
    async with serve(app, limits=Limits(max_pipelined=5)) as server, client(server.port) as c:
        c.send(GET * 20)
        for _ in range(6):
            (await app.next()).respond(204)
        assert [(await c.answer()).status for _ in range(7)] == [204] * 6 + [400]
        assert await c.end() == b""
        assert app.begun.empty()


async def test_a_malformed_request_is_refused_after_the_answers_before_it() -> None:
    app = silent()
    async with serve(app) as server, client(server.port) as c:
        c.send(GET + GET + b"GET / HTTP/1.1\r\nbroken\r\n\r\n" + GET)
        first = await app.next()
        first.respond(200, body=b"1")
        (await app.next()).respond(200, body=b"2")
        assert [(await c.answer()).status for _ in range(3)] == [200, 200, 400]
        assert await c.end() == b""
        assert app.begun.empty()


async def test_a_body_that_becomes_malformed_is_refused_and_the_application_told() -> None:
    app = Script(lambda exchange: exchange.stream(reader))
    reader = Reader()
    async with serve(app) as server, client(server.port) as c:
        answer = await c.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nzz\r\n")
        assert answer.status == 400
        await happens(reader.lost)
        (await app.next_gone()).respond(200)
        assert await c.end() == b""
        assert reader.body == b"hi"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: h\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: b\r\n" * 300 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"b" * 200_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    ],
)
async def test_a_refusal_is_one_sentence_of_text_and_closes(head: bytes, status: int) -> None:
    app = echo()
    async with serve(app) as server, client(server.port) as c:
        answer = await c.ask(head)
        assert answer.status == status
        assert answer[b"content-type"] == b"text/plain; charset=utf-8"
        assert answer[b"connection"] == b"close"
        assert re.fullmatch(rb"[^\n]+\.\n", answer.body)
        assert await c.end() == b""
        assert app.begun.empty()


async def test_random_bytes_end_in_a_refusal_or_a_close_and_harm_nobody_else() -> None:
    chance = random.Random(8)  # noqa: S311 - bytes that come again when a test fails
    async with (
        serve(echo(), limits=Limits(head_timeout_s=0.5, linger_s=0.2)) as server,
        client(server.port) as bystander,
    ):
        for _ in range(40):
            data = chance.randbytes(chance.randrange(1, 2000))
            if chance.random() < 0.5:
                data = POST + data
            async with client(server.port) as c:
                c.send(data)
                rest = await c.end()
                assert rest.startswith((b"HTTP/1.1 400", b"HTTP/1.1 408", b"HTTP/1.1 431", b"HTTP/1.1 414")), data
        assert (await bystander.ask(post(b"fine"))).body == b"fine"


async def test_http_1_0_closes_after_its_answer_unless_asked_to_keep_alive() -> None:
    async with serve(echo()) as server:
        async with client(server.port) as c:
            answer = await c.ask(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")
            assert (answer.body, answer[b"connection"]) == (b"hi", b"close")
            assert await c.end() == b""
        async with client(server.port) as c:
            head = b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n"
            for body in (b"hi", b"ho"):
                answer = await c.ask(head + body)
                assert (answer.body, answer[b"connection"]) == (body, b"keep-alive")


async def test_an_answer_of_unknown_length_ends_http_1_0_with_the_connection() -> None:
    def begin(exchange: Exchange) -> None:
        exchange.start(200, b"A: b\r\n", None)
        exchange.write(b"hel")
        exchange.write(b"lo")
        exchange.end()

    async with serve(Script(begin)) as server:
        async with client(server.port) as c:
            c.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            head, _, body = (await c.end()).partition(b"\r\n\r\n")
            assert body == b"hello"
            assert b"Transfer-Encoding" not in head
            assert b"Connection: close" in head
        async with client(server.port) as c:
            for _ in range(2):
                answer = await c.ask(GET)
                assert (answer.body, answer[b"transfer-encoding"]) == (b"hello", b"chunked")


async def test_connection_close_is_honoured() -> None:
    async with serve(echo()) as server, client(server.port) as c:
        answer = await c.ask(post(b"hi", b"Connection: close"))
        assert (answer.body, answer[b"connection"]) == (b"hi", b"close")
        assert await c.end() == b""


async def test_head_gets_the_head_alone() -> None:
    def begin(exchange: Exchange) -> None:
        if exchange.target == b"/respond":
            exchange.respond(200, body=b"hello")
        else:
            exchange.start(200, b"", 5)
            exchange.write(b"hello")
            exchange.end()

    async with serve(Script(begin)) as server, client(server.port) as c:
        for target in (b"/respond", b"/start", b"/respond"):
            c.send(b"HEAD %b HTTP/1.1\r\nHost: h\r\n\r\n" % target)
            answer = await c.answer(head_only=True)
            assert answer[b"content-length"] == b"5"
        assert (await c.ask(GET)).body == b"hello"


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_has_none(status: int) -> None:
    def begin(exchange: Exchange) -> None:
        if exchange.target == b"/a":
            exchange.respond(status, body=b"never sent")
        else:
            exchange.start(status, b"", None)
            exchange.write(b"never sent")
            exchange.end()

    async with serve(Script(begin)) as server, client(server.port) as c:
        for _ in range(2):
            for request in (GET, GET.replace(b"/a", b"/b")):
                answer = await c.ask(request)
                assert answer.status == status
                assert not {b"content-length", b"transfer-encoding"} & set(answer.names())


async def test_an_answer_given_later_is_sent_when_it_comes() -> None:
    app = silent()
    async with serve(app) as server, client(server.port) as c:
        for number in range(3):
            c.send(post(b"x" * number))
            exchange = await app.next()
            exchange.collect(10, lambda ex, body: None)
            exchange.respond(202, header_lines([(b"X-Call-Id", b"%d" % number)]))
            assert (await c.answer())[b"x-call-id"] == b"%d" % number


async def test_a_small_body_that_nobody_reads_is_read_away() -> None:
    app = Script(lambda exchange: exchange.respond(404))
    async with serve(app) as server, client(server.port) as c:
        for _ in range(2):
            c.send(POST + b"Content-Length: 60000\r\n\r\n")
            answer = await c.answer()
            assert (answer.status, b"connection" in answer.names()) == (404, False)
            c.send(b"x" * 60_000)


@pytest.mark.parametrize("framing", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_a_large_or_unbounded_body_that_nobody_reads_ends_the_connection(framing: bytes) -> None:
    app = Script(lambda exchange: exchange.respond(404))
    async with serve(app) as server, client(server.port) as c:
        answer = await c.ask(POST + framing)
        assert (answer.status, answer[b"connection"]) == (404, b"close")
        assert await c.end() == b""


async def test_a_body_that_waits_for_the_application_is_not_read_meanwhile() -> None:
    app = silent()
    async with serve(app) as server, client(server.port) as c:
        size = 8_000_000
        c.send(POST + b"Content-Length: %d\r\n\r\n" % size)
        exchange = await app.next()
        c.send(b"x" * size)
        # The client cannot get rid of it: kernel buffers and one read are far smaller.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(c.writer.drain(), 0.3)
        assert exchange.received < 1_000_000
        exchange.collect(size, lambda ex, body: ex.respond(200, body=b"%d" % len(body)))
        assert (await c.answer()).body == b"%d" % size


async def test_a_streamed_body_comes_as_it_is_sent_and_stops_when_paused() -> None:
    app = silent()
    reader = Reader()
    async with serve(app) as server, client(server.port) as c:
        size = 8_000_000
        c.send(POST + b"Content-Length: %d\r\n\r\nfirst" % size)
        exchange = await app.next()
        exchange.stream(reader)
        await happens(reader.more)
        assert reader.body == b"first"
        exchange.pause_body()
        c.send(b"x" * (size - 5))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(c.writer.drain(), 0.3)
        assert len(reader.body) < 1_000_000
        exchange.resume_body()
        await happens(reader.ended)
        assert len(reader.body) == size
        exchange.respond(200)
        assert (await c.answer()).status == 200


async def test_a_streamed_body_over_its_limit_is_refused() -> None:
    app = silent()
    async with serve(app) as server:
        for framing, body in (
            (b"Content-Length: 2000\r\n\r\n", b""),
            (b"Transfer-Encoding: chunked\r\n\r\n", b"3e9\r\n" + b"x" * 1001),
        ):
            reader = Reader()
            async with client(server.port) as c:
                c.send(POST + framing)
                (await app.next()).stream(reader, limit=1000)
                c.send(body)
                assert (await c.answer()).status == 413
                await happens(reader.lost)
                await app.next_gone()


async def test_a_collected_body_can_be_collected_again() -> None:
    app = silent()
    bodies: list[bytes] = []
    async with serve(app) as server, client(server.port) as c:
        c.send(post(b"hello"))
        exchange = await app.next()
        for _ in range(2):
            exchange.collect(10, lambda ex, body: bodies.append(body))
        exchange.respond(200)
        await c.answer()
        assert bodies == [b"hello", b"hello"]


async def test_an_answer_begins_with_its_head() -> None:
    def begin(exchange: Exchange) -> None:
        with pytest.raises(RuntimeError, match="head"):
            exchange.write(b"HTTP/1.1 200 OK")
        exchange.respond(204)

    async with serve(Script(begin)) as server, client(server.port) as c:
        assert (await c.ask(GET)).status == 204


async def test_a_request_is_answered_once() -> None:
    app = silent()
    async with serve(app) as server, client(server.port) as c:
        c.send(GET)
        exchange = await app.next()
        exchange.respond(200)
        with pytest.raises(RuntimeError, match="once"):
            exchange.respond(200)
        with pytest.raises(RuntimeError, match="once"):
            exchange.start(200, b"", None)
        exchange.abort()
        assert (await c.answer()).status == 200


async def test_an_application_that_raises_answers_500_and_is_not_asked_again() -> None:
    def raises(*_: object) -> None:
        raise LookupError("a bug")

    for begin in (raises, lambda exchange: exchange.collect(10, raises)):
        app = Script(begin)
        async with serve(app) as server, client(server.port) as c:
            answer = await c.ask(post(b"hi"))
            assert (answer.status, answer[b"connection"]) == (500, b"close")
            assert b"bug" not in answer.body
            assert await c.end() == b""


async def test_an_answer_that_breaks_off_does_not_look_whole() -> None:
    def begin(exchange: Exchange) -> None:
        length = int(exchange.target[1:]) if exchange.target != b"/" else None
        exchange.start(200, b"", length)
        exchange.write(b"half")
        if exchange.target == b"/4":
            raise LookupError("a bug")
        exchange.abort()

    async with serve(Script(begin)) as server:
        for target in (b"/", b"/8", b"/4"):
            async with client(server.port) as c:
                c.send(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target)
                head, _, body = (await c.end()).partition(b"\r\n\r\n")
                # A crash in the same turn of the loop: nothing was sent yet, and nothing is.
                assert head[:12] == (b"HTTP/1.1 200" if target != b"/4" else b"")
                assert body == {b"/": b"4\r\nhalf\r\n", b"/8": b"half", b"/4": b""}[target]
        async with client(server.port) as c:
            # Without any framing only a reset tells.
            c.send(b"GET / HTTP/1.0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await c.end()


async def test_an_answer_shorter_or_longer_than_announced_does_not_look_whole() -> None:
    app = silent()
    async with serve(app) as server:
        async with client(server.port) as c:
            c.send(GET)
            exchange = await app.next()
            exchange.start(200, b"", 5)
            exchange.write(b"hi")
            exchange.end()
            assert (await c.end()).endswith(b"\r\n\r\nhi")
        async with client(server.port) as c:
            c.send(GET)
            exchange = await app.next()
            exchange.start(200, b"", 5)
            with pytest.raises(ValueError, match="longer"):
                exchange.write(b"hello!")
            exchange.abort()


async def test_a_streamed_answer_is_written_at_once_and_a_short_one_in_one_piece() -> None:
    app = silent()
    async with serve(app) as server, client(server.port) as c:
        c.send(GET)
        exchange = await app.next()
        exchange.start(200, b"Content-Type: text/event-stream\r\n", None)
        assert (await c.some()).endswith(b"\r\n\r\n")
        exchange.write(b"data: 1\n\n")
        assert await c.some() == b"9\r\ndata: 1\n\n\r\n"
        exchange.end()
        assert await c.some() == b"0\r\n\r\n"
        c.send(GET)
        exchange = await app.next()
        exchange.start(200, b"", 5)
        exchange.write(b"hello")
        exchange.end()
        assert (await c.some()).endswith(b"\r\n\r\nhello")


async def test_a_large_streamed_answer_of_one_turn_does_not_pile_up() -> None:
    app = silent()
    async with serve(app) as server, client(server.port, receive_buffer=4096) as c:
        c.send(GET)
        exchange = await app.next()
        exchange.start(200, b"", None)
        writes = 0
        while exchange.write(b"x" * 1000):
            writes += 1
            assert writes < 100_000
        exchange.abort()


async def test_a_date_of_the_application_is_kept() -> None:
    app = silent()
    async with serve(app) as server, client(server.port) as c:
        c.send(GET)
        exchange = await app.next()
        exchange.start(200, b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", 0, dated=True)
        exchange.end()
        answer: Got = await c.answer()
        assert answer[b"date"] == b"Thu, 01 Jan 1970 00:00:00 GMT"
