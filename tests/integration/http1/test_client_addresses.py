"""A pool that connects only where it may: real sockets, the callback guard, and a resolver in the test's hand."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from holdfast.callback_guard import LOOPBACK, CallbackGuard
from holdfast.errors import AddressRefused, ConnectFailed
from holdfast.http1.client import ClientPool, Origin
from holdfast.http1.message import request_message
from tests.integration.http1.peers import Peer, ok, peer

TLS = Path(__file__).parent / "localhost.pem"


async def fetch(pool: ClientPool, origin: Origin) -> bytes:
    request = request_message(b"GET", b"/", [(b"Host", origin.netloc)], b"")
    answer = await pool.fetch(origin, request, timeout_s=10, max_body_bytes=1000)
    assert answer.status == 200
    return answer.body


class Names:
    """A resolver whose answers a test changes."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.addresses


async def echo_host(p: Peer) -> None:
    """Answers with the Host that it was called by."""
    while True:
        p.send(ok(dict((await p.request()).headers)[b"Host"]))


async def close_each(p: Peer) -> None:
    await p.request()
    p.send(ok(b"once", b"Connection: close"))


async def untouched(_p: Peer) -> None:
    raise AssertionError("a connection was made where none may be")


async def test_the_connection_goes_to_the_address_that_was_looked_at_and_the_host_stays_the_name() -> None:
    names = Names("127.0.0.1")
    guard = CallbackGuard(["127.0.0.1"], resolver=names)
    async with peer(echo_host) as at, ClientPool(addresses=guard.addresses) as pool:
        origin = Origin("receiver.invalid", at.port)
        for _ in range(2):
            assert await fetch(pool, origin) == b"receiver.invalid:%d" % at.port
    # The kept connection leads where the look was; nothing is asked again.
    assert names.asked == ["receiver.invalid"]


async def test_a_name_that_changes_after_it_was_looked_at_gains_nothing() -> None:
    names = Names("127.0.0.1")
    guard = CallbackGuard(["127.0.0.1"], resolver=names)
    async with peer(close_each) as at, ClientPool(addresses=guard.addresses) as pool:
        origin = Origin("rebound.invalid", at.port)
        assert await fetch(pool, origin) == b"once"
        names.addresses = ["127.0.0.2"]
        with pytest.raises(AddressRefused, match="not public"):
            await fetch(pool, origin)
    assert names.asked == ["rebound.invalid"] * 2


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "::ffff:127.0.0.1"])
async def test_a_host_that_leads_to_this_machine_gets_no_connection(host: str) -> None:
    async with peer(untouched) as at, ClientPool(addresses=CallbackGuard().addresses) as pool:
        with pytest.raises(AddressRefused):
            await fetch(pool, Origin(host, at.port))


async def test_one_forbidden_address_keeps_a_connection_from_the_others_too() -> None:
    guard = CallbackGuard(["127.0.0.1"], resolver=Names("127.0.0.1", "127.0.0.2"))
    async with peer(untouched) as at, ClientPool(addresses=guard.addresses) as pool:
        with pytest.raises(AddressRefused):
            await fetch(pool, Origin("receiver.invalid", at.port))


async def test_where_loopback_is_listed_the_system_resolves_localhost() -> None:
    guard = CallbackGuard(LOOPBACK.split(","))
    async with peer(echo_host) as at, ClientPool(addresses=guard.addresses) as pool:
        assert await fetch(pool, Origin("localhost", at.port)) == b"localhost:%d" % at.port


async def test_the_next_address_is_tried_when_one_does_not_listen() -> None:
    guard = CallbackGuard(["127.0.0.0/8"], resolver=Names("127.0.0.3", "127.0.0.1"))
    async with peer(echo_host) as at, ClientPool(addresses=guard.addresses) as pool:
        assert await fetch(pool, Origin("receiver.invalid", at.port))


async def test_a_name_without_an_address_is_a_failed_connection() -> None:
    guard = CallbackGuard(resolver=Names())
    async with ClientPool(addresses=guard.addresses) as pool:
        with pytest.raises(ConnectFailed, match=r"receiver\.invalid has no address"):
            await fetch(pool, Origin("receiver.invalid", 80))


@pytest.fixture
async def tls_port() -> AsyncIterator[int]:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"secret", b"Connection: close"))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS)
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_certificate_is_for_the_name_and_not_for_the_address(tls_port: int) -> None:
    guard = CallbackGuard(["127.0.0.1"], resolver=Names("127.0.0.1"))
    trusting = ssl.create_default_context(cafile=str(TLS))
    async with ClientPool(tls=trusting, addresses=guard.addresses) as pool:
        assert await fetch(pool, Origin("localhost", tls_port, tls=True)) == b"secret"
        assert await fetch(pool, Origin("localhost.", tls_port, tls=True)) == b"secret"
        with pytest.raises(ConnectFailed, match="certificate"):
            await fetch(pool, Origin("receiver.invalid", tls_port, tls=True))
