"""ASGI applications behind the lane, Starlette among them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from holdfast.http1.asgi import AsgiApp, AsgiApplication
from holdfast.http1.server import serve
from tests.integration.http1.peers import client, happens
from tests.integration.http1.test_server_requests import GET, POST, post


@contextlib.asynccontextmanager
async def served(app: AsgiApp, **options: int) -> AsyncIterator[int]:
    """An ASGI application on a port of its own."""
    async with AsgiApplication(app, **options) as application, serve(application) as server:
        yield server.port


async def whole(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


async def say(send: Any, body: bytes = b"", status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def test_starlette_works_and_keeps_the_connection() -> None:
    async def hello(request: Request) -> Response:
        body = await request.body()
        return PlainTextResponse(f"{request.method} {request.url.path} {request.query_params['q']} {len(body)}")

    app = Starlette(routes=[Route("/h/{name:path}", hello, methods=["GET", "POST"])])
    async with served(app) as port, client(port) as c:
        answer = await c.ask(b"POST /h/a%20b?q=%C3%A4 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
        assert (answer.status, answer.body) == (200, "POST /h/a b ä 2".encode())
        assert answer.names() == [b"content-type", b"content-length", b"date"]
        c.send(b"HEAD /h/x?q=1 HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await c.answer(head_only=True))[b"content-length"] == b"13"
        assert (await c.ask(GET)).status == 404
        assert (await c.ask(POST + b"Content-Length: 0\r\n\r\n")).status == 404


async def test_the_scope_says_what_was_sent() -> None:
    scopes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await say(send)

    async with served(app) as port, client(port) as c:
        await c.ask(b"GET /a%2Fb%20?x=%00&y HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: \xe4\r\n\r\n")
    (scope,) = scopes
    assert scope["type"] == "http"
    assert (scope["method"], scope["http_version"], scope["scheme"]) == ("GET", "1.1", "http")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a/b ", b"/a%2Fb%20", b"x=%00&y")
    assert scope["headers"] == [(b"host", b"h"), (b"x-a", b"1"), (b"x-a", b"\xe4")]
    assert scope["client"][0] == "127.0.0.1"


async def test_a_body_is_read_as_it_comes_and_the_go_ahead_given_when_it_is_wanted() -> None:
    wanted, first = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await happens(wanted)
        message = await receive()
        assert (message["body"], message["more_body"]) == (b"first", True)
        first.set()
        await say(send, message["body"] + await whole(receive))

    async with served(app) as port, client(port) as c:
        c.send(POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        wanted.set()
        assert (await c.answer()).status == 100
        c.send(b"5\r\nfirst\r\n")
        await happens(first)
        c.send(b"4\r\nlast\r\n0\r\n\r\n")
        assert (await c.answer()).body == b"firstlast"


async def test_a_body_that_the_application_does_not_take_stops_the_client() -> None:
    go = asyncio.Event()
    size = 8_000_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await happens(go)
        await say(send, b"%d" % (len(message["body"]) + len(await whole(receive))))

    async with served(app) as port, client(port) as c:
        c.send(POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(c.writer.drain(), 0.3)
        go.set()
        assert (await c.answer()).body == b"%d" % size


@pytest.mark.parametrize(
    "request_", [b"Content-Length: 11\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n"]
)
async def test_a_body_too_large_is_refused(request_: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            assert len(message["body"]) <= 10
        await say(send)

    async with served(app, max_body_bytes=10) as port, client(port) as c:
        answer = await c.ask(POST + request_)
        assert (answer.status, answer.body) == (413, b"The request body is larger than the limit of 10 bytes.\n")


async def test_a_streamed_answer_passes_as_it_comes() -> None:
    more: asyncio.Queue[bytes] = asyncio.Queue()

    async def events() -> AsyncIterator[bytes]:
        while event := await more.get():
            yield event

    async def stream(request: Request) -> Response:
        return StreamingResponse(events(), media_type="text/event-stream")

    async with served(Starlette(routes=[Route("/a", stream)])) as port, client(port) as c:
        c.send(GET)
        more.put_nowait(b"data: 1\n\n")
        head = await c.some()
        if not head.endswith(b"\n\n\r\n"):
            head += await c.some()
        assert head.endswith(b"9\r\ndata: 1\n\n\r\n")
        more.put_nowait(b"data: 2\n\n")
        assert await c.some() == b"9\r\ndata: 2\n\n\r\n"
        more.put_nowait(b"")
        assert await c.some() == b"0\r\n\r\n"
        more.put_nowait(b"")
        assert (await c.ask(GET)).body == b""


async def test_a_slow_reader_stops_the_application() -> None:
    sent = 0
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 50_000, "more_body": True})
            sent += 50_000
        await send({"type": "http.response.body"})
        ended.set()

    async with served(app) as port, client(port, receive_buffer=4096) as c:
        c.send(GET)
        await c.some()
        await asyncio.sleep(0.2)
        assert sent < 20_000_000
        while not ended.is_set():
            assert await c.some()
        assert sent == 50_000_000


async def test_a_client_that_leaves_is_a_disconnect() -> None:
    begun, told = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await whole(receive) == b"hi"
        begun.set()
        assert (await receive())["type"] == "http.disconnect"
        await say(send, b"nobody hears")
        told.set()

    async with served(app) as port, client(port) as c:
        c.send(post(b"hi"))
        await happens(begun)
        c.leave()
        await happens(told)


async def test_an_answered_request_is_a_disconnect_too() -> None:
    told = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, b"hi")
        assert (await receive())["type"] == "http.disconnect"
        told.set()

    async with served(app) as port, client(port) as c:
        assert (await c.ask(GET)).body == b"hi"
        await happens(told)


async def test_an_application_that_fails_answers_500_or_breaks_off() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if scope["path"] == "/odd":
            await send({"type": "websocket.accept"})
        if scope["path"] != "/nothing":
            raise LookupError("a bug")

    async with served(app) as port:
        for path in (b"/", b"/odd", b"/nothing"):
            async with client(port) as c:
                answer = await c.ask(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
                assert (answer.status, answer.body) == (500, b"The server failed on this request.\n")
        async with client(port) as c:
            c.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await c.end()).endswith(b"4\r\nhalf\r\n")


async def test_leaving_ends_the_requests_under_way() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with AsgiApplication(app) as application, serve(application) as server, client(server.port) as c:
        c.send(GET)
        await happens(begun)
        await server.drain(0.05)
    assert ended.is_set()
