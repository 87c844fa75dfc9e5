"""What no part of Holdfast would have written, put into its streams and subjects: nothing ends, loops or is blocked.

Damage, another version or another program may have put it there: all of it comes by NATS, past the gateway's checks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from holdfast.function import FunctionRef
from holdfast.invocation import Invocation, new_call_id
from holdfast.queue import dead_letter, parked_callback
from holdfast.queue.answer import KeptAnswer
from holdfast.queue.connection import Connection, connect
from holdfast.queue.dead_letter import DeadCallback, DeadLetter
from holdfast.queue.message import Publication, to_publish
from holdfast.queue.parked_callback import ParkedCallback
from holdfast.queue.publisher import Publisher
from holdfast.queue.wire import pub
from holdfast.settings import NatsSettings
from tests.support.metrics import metrics, metrics_when
from tests.support.receiver import receiver
from tests.support.serving import Serving, serving

BLOCKED_FOR_S = 20.0
"""Longer than a call and its callback take on a machine that is busy with other tests."""
LOOP_SHOWN_AFTER_S = 3.0
"""A worker that dies of a message is started again at once, and given the message again: four deaths in 12 s."""

UNUSABLE_URLS = [
    "http://[",
    "http://h:99999/",
    "http://h:0/",
    "ftp://x/",
    "",
    "nonsense",
    "http://",
    "/",
    "//",
    "http://a b/",
    "http://user:password@h/",
]


def invocation(callback_url: str | None = None) -> Invocation:
    call_id = new_call_id()
    return Invocation(
        call_id, call_id, FunctionRef("echo"), time.time_ns(), callback_url, b"POST / HTTP/1.1\r\nHost: x\r\n\r\nx"
    )


def parked(url: str) -> ParkedCallback:
    answer = KeptAnswer(200, [(b"X-A", b"b")], b"body")
    return ParkedCallback(invocation(), url, "faas-request", answer, 0.1, 1, time.time_ns())


def headers(lines: str) -> bytes:
    return f"NATS/1.0\r\n{lines}\r\n".encode("utf-8", "surrogateescape")


class Poison(NamedTuple):
    """A message, made when it is put."""

    name: str
    message: Callable[[], Publication]


def damaged(publication: Publication, old: bytes, new: bytes) -> Publication:
    assert old in publication.headers + publication.payload
    return publication._replace(
        headers=publication.headers.replace(old, new), payload=publication.payload.replace(old, new)
    )


def parked_to(url: str) -> Publication:
    return parked_callback.to_publish_now(parked(url), f"callback/{new_call_id()}/poison")


UNREADABLE_CALLBACKS = [
    Poison("url-that-is-not-ascii", lambda: damaged(parked_to("http://h/x"), b"http://h/x", "http://hö/".encode())),
    Poison("answer-that-is-none", lambda: parked_to("http://h/x")._replace(payload=b"\xff\x00nonsense")),
    Poison("attempts-that-are-no-number", lambda: damaged(parked_to("http://h/x"), b"Attempts: 1", b"Attempts: x")),
]
OTHERS = [
    Poison("call-of-no-function", lambda: damaged(to_publish("faas-request", invocation()), b"echo.", b"\xff\xff.")),
    Poison("call-without-headers", lambda: Publication(b"faas-request.call.a.b.c", headers(""), b"x")),
    Poison("call-in-a-lane-of-nobody", lambda: Publication(b"faas-request.lane.a.b.c", headers(""), b"x")),
    Poison("call-in-a-lane-without-a-name", lambda: Publication(b"faas-request.lane.a", headers(""), b"x")),
    Poison(
        "call-in-a-lane-with-an-odd-name", lambda: Publication(b"faas-request.lane.~.\xc3\xb6.c", headers(""), b"x")
    ),
    Poison("call-for-later-that-is-none", lambda: Publication(b"faas-request.later.a.b.c.d", headers(""), b"x")),
    Poison("dead-letter-that-is-none", lambda: Publication(b"holdfast.dead.faas-request.a.b.c.d", headers(""), b"x")),
    Poison("dead-letter-under-a-short-subject", lambda: Publication(b"holdfast.dead.x", headers(""), b"x")),
    Poison(
        "dead-letter-with-a-body-that-is-none",
        lambda: damaged(
            dead_letter.to_publish(
                DeadLetter(invocation(), "faas-request", time.time_ns(), "x", KeptAnswer(500, [], b""))
            ),
            b"HTTP/1.1 500",
            b"\xff",
        ),
    ),
    Poison("record-that-is-none", lambda: Publication(b"holdfast.call.abc", headers(""), b"{]")),
    Poison("record-that-is-a-list", lambda: Publication(b"holdfast.call.abd", headers(""), b"[]\n")),
    Poison("record-that-is-deep", lambda: Publication(b"holdfast.call.abe", headers(""), b"[" * 100_000)),
    Poison("body-under-a-name-that-is-none", lambda: Publication(b"holdfast.body.request.x.y", headers(""), b"x")),
    Poison("body-under-an-odd-subject", lambda: Publication(b"holdfast.body.odd.x.y", headers(""), b"x")),
]
ANNOUNCEMENTS = [
    b"",
    b"null",
    b"[]",
    b"{",
    b'"text"',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"id":"p","queue":"faas-request"}',
    b'{"id":"p","queue":"faas-request","lanes":"abc"}',
    b'{"id":"p","queue":"faas-request","lanes":["a"]}',
    b'{"id":"p","queue":"faas-request","lanes":["a.b.c",".","a.","*.>","a b.c"]}',
    b'{"id":"p","queue":"faas-request","lanes":7,"limits":[],"held":"x"}',
    b'{"id":"p","queue":"faas-request","max_inflight":"many","running":[],"limits":{"a":1e999},"held":{"a":"nan"}}',
    b'{"id":{"a":1},"queue":["x"],"max_inflight":-1}',
]


@contextlib.asynccontextmanager
async def bus(server: Serving) -> AsyncIterator[tuple[Connection, Publisher]]:
    async with connect(NatsSettings.from_environment({"nats_url": server.ready["nats"]}), name="poison") as nats:
        yield nats, Publisher(nats, 10)


async def put(server: Serving, *messages: Publication) -> None:
    """Put them where they do their harm."""
    async with bus(server) as (_, publisher):
        for message in messages:
            await publisher.confirm(*message)


def call_id_of(message: Publication) -> str:
    (line,) = (line for line in message.headers.split(b"\r\n") if line.startswith(b"Holdfast-Call-Id: "))
    return line.partition(b": ")[2].decode()


async def is_well(server: Serving, before: dict[str, list[int]]) -> None:
    """Nothing has died, a call and its callback go their way, and everything can be asked for."""
    async with receiver() as receiving:
        ids = {await server.accept("echo", b"x", X_Callback_Url=receiving.url) for _ in range(5)}
        await receiving.wait_for_ids(ids, BLOCKED_FOR_S)
    for path in ("/system/calls", "/system/queues", "/system/queues/faas-request", "/system/dead-letters"):
        answer = await server.call(path, method="GET")
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
    assert (await server.client.get(server.ready["metrics"] + "/metrics")).status_code == 200
    assert server.ready["processes"] == before


async def dead_callbacks(server: Serving) -> set[str]:
    """The ids of the calls whose callbacks became dead letters."""
    letters = (await server.call("/system/dead-letters", method="GET")).json()["dead_letters"]
    return {letter["id"] for letter in letters if letter["kind"] == "callback"}


@pytest.mark.parametrize("kind", ["parked", "of-a-call"])
async def test_a_callback_that_cannot_be_made_becomes_a_dead_letter(tmp_path: Path, kind: str) -> None:
    """All at once: one that is tried for ever holds a slot, one that kills the worker keeps it from the others."""
    async with serving(tmp_path, "--no-auth", environ={"callback_attempts": "2"}) as server:
        before = server.ready["processes"]
        if kind == "parked":
            messages = [parked_to(url) for url in UNUSABLE_URLS]
        else:
            messages = [to_publish("faas-request", invocation(url)) for url in UNUSABLE_URLS if url]
        await put(server, *messages)
        await asyncio.sleep(LOOP_SHOWN_AFTER_S)
        await is_well(server, before)
        found = await metrics_when(server, lambda found: not found.total("holdfast_callbacks_parked"))
        assert found.total("holdfast_calls_in_queue") == 0
        assert await dead_callbacks(server) == set(map(call_id_of, messages))


async def test_a_dead_callback_that_cannot_be_made_is_one_again_after_its_replay(tmp_path: Path) -> None:
    async with serving(tmp_path, "--no-auth", environ={"callback_attempts": "2"}) as server:
        before = server.ready["processes"]
        messages = [dead_letter.to_publish(DeadCallback(parked(url), time.time_ns(), "x")) for url in UNUSABLE_URLS]
        await put(server, *messages)
        assert await dead_callbacks(server) == set(map(call_id_of, messages))
        body, kind = json.dumps({"all": True}).encode(), {"Content-Type": "application/json"}
        answer = await server.call("/system/dead-letters/replay", body, kind)
        assert answer.status_code == 200, answer.text
        await asyncio.sleep(LOOP_SHOWN_AFTER_S)
        await is_well(server, before)
        await metrics_when(server, lambda found: not found.total("holdfast_callbacks_parked"))
        assert await dead_callbacks(server) == set(map(call_id_of, messages))


async def test_a_parked_callback_that_cannot_be_read_blocks_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path, "--no-auth") as server:
        before = server.ready["processes"]
        await put(server, *(poison.message() for poison in UNREADABLE_CALLBACKS))
        await asyncio.sleep(LOOP_SHOWN_AFTER_S)
        await is_well(server, before)
        await metrics_when(server, lambda found: not found.total("holdfast_callbacks_parked"))
        assert "Traceback" not in server.log


async def test_messages_that_nobody_of_ours_wrote_do_no_harm(tmp_path: Path) -> None:
    async with serving(tmp_path, "--no-auth", environ={"orphan_body_age": "1s"}) as server:
        before = server.ready["processes"]
        await put(server, *(poison.message() for poison in OTHERS))
        await asyncio.sleep(LOOP_SHOWN_AFTER_S)
        await is_well(server, before)
        for path in ("/async-function/abc", "/async-function/abc/result", "/system/dead-letters/c"):
            answer = await server.call(path, method="GET")
            assert answer.status_code in {404, 410, 503}, f"{path}: {answer.status_code} {answer.text}"
        assert (await server.call("/async-function/abc", method="DELETE")).status_code in {404, 503}
        for path in ("/system/dead-letters/replay", "/system/dead-letters/drop", "/system/queues/faas-request/purge"):
            answer = await server.call(path, json.dumps({"all": True}).encode(), {"Content-Type": "application/json"})
            assert answer.status_code in {200, 400}, f"{path}: {answer.status_code} {answer.text}"
        await is_well(server, before)
        assert (await metrics(server)).total("holdfast_unexpected_errors_total") == 0, server.log
        assert "Traceback" not in server.log


async def test_words_of_other_programs_on_our_subjects_do_no_harm(tmp_path: Path) -> None:
    async with serving(tmp_path, "--no-auth") as server:
        before = server.ready["processes"]
        async with bus(server) as (nats, _):
            for said in ANNOUNCEMENTS:
                nats.send(pub(b"holdfast.worker.faas-request", said))
            for subject in (b"holdfast.cancel.x", b"holdfast.cancel.\xff", b"holdfast.roll-call", b"holdfast.worker.x"):
                nats.send(pub(subject, b"\xff\x00"))
            await nats.flush()
            await asyncio.sleep(LOOP_SHOWN_AFTER_S)
            nats.send(pub(b"holdfast.worker.faas-request", ANNOUNCEMENTS[-2]))
            await is_well(server, before)
        assert (await metrics(server)).total("holdfast_unexpected_errors_total") <= 2, server.log
