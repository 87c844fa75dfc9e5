from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.errors import QueueUnavailable
from holdfast.queue import connection as connection_module
from holdfast.queue import wire
from holdfast.queue.connection import Connection, connect
from holdfast.queue.wire import Msg
from holdfast.settings import NatsSettings
from tests.support.nats import PASSWORD, USER, NatsServer, free_port, nats_server, within


class Fate:
    """Events to wait for instead of sleeping."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.back = asyncio.Event()
        self.reasons: list[str] = []

    def on_lost(self, reason: str) -> None:
        self.reasons.append(reason)
        self.lost.set()

    def on_back(self) -> None:
        self.back.set()


@contextlib.asynccontextmanager
async def connected(settings: NatsSettings, **options: float) -> AsyncIterator[tuple[Connection, Fate]]:
    fate = Fate()
    async with connect(settings, name="test", on_lost=fate.on_lost, on_back=fate.on_back, **options) as conn:
        yield conn, fate


async def test_a_message_reaches_its_subscription_with_reply_headers_and_bytes_untouched(server: NatsServer) -> None:
    async with connected(server.settings()) as (conn, _):
        seen: asyncio.Queue[Msg] = asyncio.Queue()
        sid = conn.subscribe(b"a.*", seen.put_nowait)
        headers = b"NATS/1.0\r\nX: y\r\n\r\n"
        conn.send(wire.hpub(b"a.b", headers, bytes(range(256)), b"answer.here"))
        conn.send(wire.pub(b"a.c", b""))
        assert await within(5, seen.get()) == Msg(sid, b"a.b", b"answer.here", headers, bytes(range(256)))
        assert await within(5, seen.get()) == Msg(sid, b"a.c", b"", b"", b"")


async def test_what_the_server_says_of_itself_is_known(server: NatsServer) -> None:
    async with connected(server.settings()) as (conn, _):
        assert conn.connected
        assert conn.max_payload == 8 * 1024 * 1024
        assert conn.server_version.startswith("2.")
        assert conn.server == f"127.0.0.1:{server.port}"


async def test_a_large_message_arrives_in_order_with_small_ones(server: NatsServer) -> None:
    async with connected(server.settings()) as (conn, _):
        seen: list[bytes] = []
        conn.subscribe(b"a", lambda message: seen.append(message.payload))
        payloads = [b"1", b"x" * (4 * 1024 * 1024), b"2", b"y" * 70_000, b"3"]
        for payload in payloads:
            conn.send(wire.pub(b"a", payload))
        await conn.flush(5)
        assert seen == payloads


async def test_a_request_is_answered_or_says_why_not(server: NatsServer) -> None:
    async with connected(server.settings()) as (conn, _):
        answer = await conn.request(b"$JS.API.INFO", b"", 5)
        assert b"account_info_response" in answer.payload
        with pytest.raises(QueueUnavailable, match=r"nobody answers nobody\.here"):
            await conn.request(b"nobody.here", b"", 5)
        conn.subscribe(b"silent", lambda _: None)
        with pytest.raises(QueueUnavailable, match=r"no answer to silent within 0\.05 s"):
            await conn.request(b"silent", b"", 0.05)


async def test_one_callback_that_fails_does_not_cost_the_messages_after_it(server: NatsServer) -> None:
    async with connected(server.settings()) as (conn, _):
        seen: list[bytes] = []

        def fail_once(message: Msg) -> None:
            seen.append(message.payload)
            if len(seen) == 1:
                raise RuntimeError("on purpose")

        conn.subscribe(b"a", fail_once)
        conn.send(wire.pub(b"a", b"1"))
        conn.send(wire.pub(b"a", b"2"))
        await conn.flush()
        assert seen == [b"1", b"2"]
        assert conn.connected


async def test_a_killed_server_is_found_again_at_once_and_subscriptions_live_on(server: NatsServer) -> None:
    async with connected(server.settings()) as (conn, fate):
        seen: asyncio.Queue[Msg] = asyncio.Queue()
        conn.subscribe(b"a", seen.put_nowait)
        server.kill()
        await within(5, fate.lost.wait())
        assert not conn.connected
        with pytest.raises(QueueUnavailable, match="not connected"):
            conn.send(wire.pub(b"a", b"lost"))
        with pytest.raises(QueueUnavailable, match="not connected"):
            await conn.flush()
        with pytest.raises(QueueUnavailable, match="not connected"):
            await conn.request(b"a", b"", 5)
        await server.start()
        began = time.monotonic()
        await within(5, fate.back.wait())
        assert time.monotonic() - began < 1  # far above the 0.1 s aimed at: the machine may be busy
        conn.send(wire.pub(b"a", b"after"))
        assert (await within(5, seen.get())).payload == b"after"


async def test_a_request_under_way_fails_when_the_connection_is_lost(server: NatsServer) -> None:
    async with connected(server.settings()) as (conn, _):
        conn.subscribe(b"silent", lambda _: None)
        request = asyncio.create_task(conn.request(b"silent", b"", 30))
        await conn.flush()
        server.kill()
        with pytest.raises(QueueUnavailable, match="lost"):
            await within(5, request)


async def test_a_frozen_server_counts_as_lost_after_two_silent_intervals(server: NatsServer) -> None:
    async with connected(server.settings(), ping_interval_s=0.2) as (_, fate):
        server.freeze()
        try:
            await within(5, fate.lost.wait())
        finally:
            server.thaw()
        assert "no answer to PING" in fate.reasons[0]
        await within(10, fate.back.wait())


async def test_a_quiet_connection_stays_because_the_server_answers_pings(server: NatsServer) -> None:
    async with connected(server.settings(), ping_interval_s=0.02) as (conn, fate):
        pings = 0
        while pings < 20:  # each takes a round trip, so a dozen intervals pass
            await conn.flush()
            await asyncio.sleep(0.02)
            pings += 1
        assert not fate.lost.is_set()


async def test_the_servers_are_tried_in_turn_and_the_first_may_be_dead(server: NatsServer) -> None:
    async with nats_server() as second:
        dead = f"nats://127.0.0.1:{free_port()}"
        settings = NatsSettings.from_environment({"nats_url": f"{dead},{server.url},{second.url}"})
        async with connected(settings) as (conn, fate):
            assert conn.server == f"127.0.0.1:{server.port}"
            server.kill()
            await within(5, fate.back.wait())
            assert conn.server == f"127.0.0.1:{second.port}"
            fate.back.clear()
            await server.start()
            second.kill()
            await within(5, fate.back.wait())
            assert conn.server == f"127.0.0.1:{server.port}"


async def test_reconnecting_is_given_up_after_max_reconnect_and_the_part_can_see_it(server: NatsServer) -> None:
    async with connected(server.settings(faas_max_reconnect="3")) as (conn, fate):
        server.kill()
        with pytest.raises(QueueUnavailable, match="tried 3 times"):
            await within(10, asyncio.shield(conn.ended))
        assert fate.lost.is_set()


async def test_a_first_connection_that_fails_names_every_server() -> None:
    ports = [free_port(), free_port()]
    settings = NatsSettings.from_environment({"nats_url": ",".join(f"nats://127.0.0.1:{port}" for port in ports)})
    with pytest.raises(QueueUnavailable) as failure:
        async with connected(settings, patience_s=0.1):
            pass
    assert all(f"127.0.0.1:{port}" in str(failure.value) for port in ports)


async def test_a_first_connection_waits_for_a_server_that_is_starting() -> None:
    async with nats_server(started=False) as server:
        starting = asyncio.create_task(server.start())
        async with connected(server.settings()) as (conn, _):
            assert conn.connected
        await starting


async def test_a_wrong_password_is_refused_at_once_and_told(server: NatsServer) -> None:
    settings = NatsSettings.from_environment({"nats_url": f"nats://holdfast:wrong@127.0.0.1:{server.port}"})
    began = time.monotonic()
    with pytest.raises(QueueUnavailable, match="Authorization Violation") as failure:
        async with connected(settings):
            pass
    assert time.monotonic() - began < 5
    assert "wrong" not in str(failure.value)


async def test_a_peer_that_does_not_speak_nats_is_refused() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(http, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        settings = NatsSettings.from_environment({"nats_url": f"nats://127.0.0.1:{port}"})
        with pytest.raises(QueueUnavailable, match="not a command of the NATS protocol"):
            async with connected(settings, patience_s=0.1):
                pass


GREETING = b'INFO {"server_id":"a","version":"2.15.1","max_payload":1048576,"headers":true}\r\n'


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(b"\x00\xff" * 500, id="bytes"),
        pytest.param(b"MSG a 1 -5\r\n", id="a length below zero"),
        pytest.param(b"MSG a 1 99999999999\r\n", id="a length beyond the limit"),
        pytest.param(b"MSG a 1 " + b"9" * 5000 + b"\r\n", id="a length of many digits"),
        pytest.param(b"MSG a 1 2\r\nhello\r\n", id="a message longer than its length"),
        pytest.param(b"HMSG a 1 9 5\r\nhello\r\n", id="headers longer than their message"),
        pytest.param(b"MSG a\r\n", id="a message without a subscription"),
        pytest.param(b"INFO []\r\n", id="INFO that is no object"),
        pytest.param(b"INFO " + b"[" * 50_000 + b"\r\n", id="INFO that is deep"),
        pytest.param(b"PONG" * 100_000, id="a line without an end"),
        pytest.param(GREETING + b"PING\r\n" * 20_000 + b"MSG 1\r\n", id="a flood, and then half a line"),
        pytest.param(b"MSG a 1 5\r\nhel", id="half a message"),
    ],
)
async def test_a_server_that_goes_mad_is_left_for_the_next(server: NatsServer, nonsense: bytes) -> None:
    async def mad(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(GREETING)
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n")
            await asked.wait()
            writer.write(nonsense)
            await writer.drain()
        writer.close()

    asked = asyncio.Event()
    listener = await asyncio.start_server(mad, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        settings = NatsSettings.from_environment({"nats_url": f"nats://127.0.0.1:{port},{server.url}"})
        async with connected(settings) as (conn, fate):
            got: asyncio.Queue[Msg] = asyncio.Queue()
            conn.subscribe(b"a", got.put_nowait)
            assert conn.server == f"127.0.0.1:{port}"
            asked.set()
            await within(20, fate.back.wait())
            assert conn.server == f"127.0.0.1:{server.port}"
            conn.send(wire.pub(b"a", b"sane"))
            assert (await within(20, got.get())).payload == b"sane"


async def test_a_peer_that_never_greets_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "CONNECT_TIMEOUT_S", 0.1)
    done = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        settings = NatsSettings.from_environment({"nats_url": f"nats://127.0.0.1:{port}"})
        with pytest.raises(QueueUnavailable, match=r"no answer within 0\.1 s"):
            async with connected(settings, patience_s=0.1):
                pass
        done.set()


async def test_what_was_sent_last_is_read_by_the_server_before_the_connection_closes(server: NatsServer) -> None:
    async with connected(server.settings()) as (watcher, _):
        seen: asyncio.Queue[Msg] = asyncio.Queue()
        watcher.subscribe(b"a", seen.put_nowait)
        await watcher.flush()
        for _ in range(20):
            async with connected(server.settings()) as (conn, _):
                conn.send(wire.pub(b"a", b"last words"))
            assert (await within(5, seen.get())).payload == b"last words"


async def test_messages_on_their_way_when_a_subscription_ends_reach_the_late_callback(server: NatsServer) -> None:
    async with connected(server.settings()) as (conn, _):
        early: list[bytes] = []
        late: list[bytes] = []
        sid = conn.subscribe(b"a", lambda message: early.append(message.payload))
        conn.send(wire.pub(b"a", b"on its way"))
        conn.unsubscribe(sid, late=lambda message: late.append(message.payload))
        conn.send(wire.pub(b"a", b"too late"))
        await conn.flush()
        assert early == []
        assert late == [b"on its way"]
        assert sid not in conn._callbacks


async def test_a_context_left_while_the_server_is_away_ends_in_time(server: NatsServer) -> None:
    async with connected(server.settings()) as (conn, fate):
        server.kill()
        await within(5, fate.lost.wait())
    await within(1, conn.ended)


CERTIFICATE = Path(__file__).parents[1] / "http1" / "localhost.pem"


async def test_a_server_that_asks_for_tls_is_spoken_to_encrypted_and_only_when_its_certificate_is_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with nats_server(started=False) as server:
        with server.config.open("a") as config:
            config.write(f'tls {{ cert_file: "{CERTIFICATE}", key_file: "{CERTIFICATE}" }}\n')
        await server.start()
        url = f"nats://{USER}:{PASSWORD}@localhost:{server.port}"
        for scheme in ("nats", "tls"):
            settings = NatsSettings.from_environment({"nats_url": url.replace("nats", scheme, 1)})
            monkeypatch.delenv("SSL_CERT_FILE", raising=False)
            with pytest.raises(QueueUnavailable, match=r"CERTIFICATE_VERIFY_FAILED"):
                async with connected(settings, patience_s=0.05):
                    pass
            monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
            async with connected(settings) as (conn, _):
                seen: asyncio.Queue[Msg] = asyncio.Queue()
                conn.subscribe(b"a", seen.put_nowait)
                conn.send(wire.pub(b"a", b"x" * 1_000_000))
                assert len((await within(5, seen.get())).payload) == 1_000_000


async def test_a_server_without_tls_is_refused_when_tls_was_asked_for(server: NatsServer) -> None:
    settings = NatsSettings.from_environment({"nats_url": f"tls://{USER}:{PASSWORD}@localhost:{server.port}"})
    with pytest.raises(QueueUnavailable):
        async with connected(settings, patience_s=0.05):
            pass
