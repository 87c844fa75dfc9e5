"""Every odd request of the corpus, sent raw to a real gateway: what the function gets and what the client is answered.

h11 reads both sides: as a server what was sent, as a client what came back. The gateway may refuse what h11 takes; it
may not understand it differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import h11
import pytest

from tests.hostile import curl
from tests.hostile.case import Case
from tests.hostile.conftest import Stage
from tests.hostile.corpus import GROUPS
from tests.hostile.mirror import fingerprint
from tests.hostile.readings import Answer, Asked, Headers, as_client, as_server
from tests.hostile.wire import Wire, wire

PROBE = b"POST /function/mirror/probe HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
# Made anew on each hop, or the gateway's own: not compared.
_NOT_COMPARED = frozenset(
    (
        b"host content-length expect connection keep-alive proxy-authenticate proxy-authorization proxy-connection te "
        b"trailer transfer-encoding upgrade x-call-id x-start-time x-forwarded-for x-forwarded-host x-holdfast-depth"
    ).split()
)


def _cases() -> Iterator[object]:
    for group, cases in GROUPS.items():
        for case in cases:
            for sent, where in ((case, "sync"), (case.asynchronous, "async")):
                if sent is not None:
                    yield pytest.param(sent, id=f"{where}: {group}: {case.name}")


def test_the_corpus_is_large_and_says_nothing_twice() -> None:
    names = [(group, case.name) for group, cases in GROUPS.items() for case in cases]
    assert len(names) == len(set(names)) >= 200
    assert len({case.sent for cases in GROUPS.values() for case in cases}) == len(names)


@pytest.mark.parametrize("case", list(_cases()))
@pytest.mark.asyncio(loop_scope="module")
async def test_an_odd_request_is_read_as_h11_reads_it_or_refused(stage: Stage, case: Case) -> None:
    requests, ending = as_server(case.sent + case.later)
    methods = [request.method for request in requests]
    async with wire(stage.port) as connection:
        answers = await _converse(connection, case, methods)
    assert tuple(answer.status for answer in answers) == case.answers
    assert not stage.function.faults, "the gateway sent its function what is not HTTP"
    finals = [answer for answer in answers if answer.status >= 200]
    expected = _expected(case, requests)
    for number, answer in enumerate(finals):
        if answer.first(b"x-mirror") or answer.status == 202:
            assert number < len(expected), "the function got a request that h11 does not read"
            await _check_call(stage, expected[number], answer)
    if ending == "refused" and not case.seen:
        assert not finals or finals[-1].closes, "h11 refuses what the gateway takes"


def _expected(case: Case, requests: list[Asked]) -> list[Asked]:
    if not case.seen:
        return requests
    assert case.why
    return [Asked(seen.method, b"/function/mirror" + seen.target, [], seen.body) for seen in case.seen]


async def _converse(connection: Wire, case: Case, methods: list[bytes]) -> list[Answer]:
    """Send the case; gives its answers, once it is certain that nothing follows them."""
    connection.send(case.sent)
    wanted = len(case.answers)
    if case.later:
        await connection.answers(1, methods)
        connection.send(case.later)
    answers = await connection.answers(wanted, methods) if wanted else []
    if case.ends:
        connection.end()
    elif not connection.ended and not (answers and answers[-1].closes):
        # The connection is kept: the next answer must be the next request's.
        connection.send(PROBE)
        methods = (methods + [b"POST"] * wanted)[: len([a for a in answers if a.status >= 200])]
        probed = await connection.answers(wanted + 1, methods)
        statuses = tuple(answer.status for answer in probed)
        assert statuses == (*case.answers, 200), "what is answered, and then the probe"
        assert probed[-1].body == fingerprint(b"POST", b"/probe", b"")
        answers = probed[:-1]
    await connection.until_closed()
    all_answers, stray = as_client(connection.received, methods, ended=True)
    assert not stray
    assert all_answers[:wanted] == answers
    assert len(all_answers) <= wanted + 1
    return all_answers[:wanted] if len(all_answers) > len(answers) and not case.ends else all_answers


async def _check_call(stage: Stage, expected: Asked, answer: Answer) -> None:
    call_id = answer.first(b"x-call-id")
    assert call_id is not None
    got = await stage.function.wait_for(call_id)
    target = _target(expected.target)
    assert (got.method, got.target, got.body) == (expected.method, target, expected.body)
    if expected.headers:
        assert _end_to_end(got.headers, []) == _end_to_end(expected.headers, expected.headers)
    if answer.first(b"x-mirror"):
        body = b"" if got.method == b"HEAD" else fingerprint(got.method, got.target, got.body)
        assert answer.body == body, "a client got another's answer"


def _target(target: bytes) -> bytes:
    """What the function is to see of a target."""
    if b"://" in target and not target.startswith(b"/"):
        target = b"/" + target.split(b"://", 1)[1].split(b"/", 1)[1]
    _, _, rest = target.partition(b"function/mirror")
    rest = rest.removeprefix(b".openfaas-fn")
    return rest if rest.startswith(b"/") else b"/" + rest


def _end_to_end(headers: Headers, named_by: Headers) -> Headers:
    named = {
        token.strip().lower()
        for name, value in named_by
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    return [(name, value) for name, value in headers if name.lower() not in _NOT_COMPARED | named]


# What differs from one answer to the next of its kind.
_VARIES = re.compile(rb"[0-9a-f]{8}-[-0-9a-f]{27}|[0-9a-f]{64}|[0-9]{2}:[0-9]{2}:[0-9]{2}|[0-9]{10,}")


@pytest.mark.skipif(curl.CURL is None, reason="curl is not installed")
@pytest.mark.asyncio(loop_scope="module")
async def test_curl_reads_each_kind_of_answer_as_h11_does(stage: Stage) -> None:
    kinds: dict[bytes, tuple[bytes, bytes]] = {}
    for case in (sent for cases in GROUPS.values() for one in cases for sent in (one, one.asynchronous) if sent):
        if len(case.answers) == 1 and case.answers[0] >= 200 and len(case.sent) < 100_000:
            async with wire(stage.port) as connection:
                connection.send(case.sent)
                method = next((request.method for request in as_server(case.sent)[0]), b"POST")
                await connection.answers(1, [method])
            kinds.setdefault(_VARIES.sub(b"", connection.received), (connection.received, method))
    assert len(kinds) > 30
    for received, method in kinds.values():
        (read,) = await curl.reading(received, method)
        assert [read] == as_client(received, [method], ended=True)[0]


@pytest.mark.asyncio(loop_scope="module")
async def test_an_answer_of_the_gateway_is_the_same_to_h11_however_it_is_cut(stage: Stage) -> None:
    async with wire(stage.port) as connection:
        connection.send(PROBE)
        await connection.until_closed()
    whole = as_client(connection.received, [], ended=True)
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="POST", target="/", headers=[("Host", "h"), ("Content-Length", "0")]))
    reader.send(h11.EndOfMessage())
    body = b""
    for at in range(len(connection.received)):
        reader.receive_data(connection.received[at : at + 1])
        while isinstance(event := reader.next_event(), h11.Response | h11.Data):
            body += event.data if isinstance(event, h11.Data) else b""
    assert whole[0][0].body == body
