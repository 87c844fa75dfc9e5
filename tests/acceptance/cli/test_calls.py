"""`holdfast calls` and `invoke --async --wait`."""

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.acceptance.cli.conftest import CALL_ID, FakeGateway, Holdfast, Request, Scripted, as_json, like_a_gateway

RECORD: dict[str, Any] = {
    "id": CALL_ID,
    "function": "figlet",
    "namespace": "openfaas-fn",
    "queue": "faas-request",
    "status": "succeeded",
    "accepted_at": "2026-01-31T08:00:00.000000Z",
    "started_at": "2026-01-31T08:00:00.001000Z",
    "finished_at": "2026-01-31T08:00:00.002000Z",
    "attempts": [
        {"started_at": "2026-01-31T08:00:00.001000Z", "duration_seconds": 0.001, "status": 200, "error": None}
    ],
    "next_attempt_at": None,
    "reason": None,
    "result": {"status": 200, "content_type": "text/plain", "bytes": 6},
    "callback": None,
    "links": {},
}
OUTCOMES = [("succeeded", 0), ("failed", 6), ("cancelled", 7), ("expired", 7)]


def record(status: str = "succeeded", **changed: Any) -> dict[str, Any]:
    return {**RECORD, "status": status, **changed}


def running() -> dict[str, Any]:
    return record("running", result=None, finished_at=None, attempts=[])


def status_in(lines: Sequence[str]) -> str:
    return next(line.split()[1] for line in lines if line.startswith("Status:"))


def stream(*records: dict[str, Any]) -> Iterator[bytes]:
    """Server-sent events in pieces cut anywhere."""
    text = "".join(f": still here\n\nevent: {r['status']}\ndata: {json.dumps(r)}\n\n" for r in records).encode()
    yield from (text[start : start + 100] for start in range(0, len(text), 100))


def test_a_call_is_shown_for_people_and_for_scripts(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: as_json(RECORD)
    shown = holdfast("calls", "show", CALL_ID, "-g", gateway.url)
    assert shown.code == 0, shown.err
    assert {"Function: figlet.openfaas-fn", "Status:   succeeded", "Result:   200, 6 bytes"} <= set(shown.lines)
    request = gateway.request()
    assert (request.method, request.target) == ("GET", f"/async-function/{CALL_ID}")
    assert json.loads(holdfast("calls", "show", CALL_ID, "-g", gateway.url, "--output", "json").out) == RECORD


def test_why_a_call_waits_is_shown(gateway: FakeGateway, holdfast: Holdfast) -> None:
    why = {"reason": "no worker", "position": 12, "text": "no worker serves the queue slow"}
    gateway.answering = lambda _: as_json(record("waiting", result=None, waiting=why))
    shown = holdfast("calls", "show", CALL_ID, "-g", gateway.url)
    assert {"Queue:    faas-request", "Waiting:  no worker serves the queue slow"} <= set(shown.lines)


def test_what_a_callback_met_is_shown(gateway: FakeGateway, holdfast: Holdfast) -> None:
    callback = {"url": "http://a/b", "status": "pending", "attempts": 2, "error": "http://a refused the connection"}
    gateway.answering = lambda _: as_json(record(callback=callback))
    shown = holdfast("calls", "show", CALL_ID, "-g", gateway.url)
    assert "Callback: pending: http://a/b, attempt 2: http://a refused the connection" in shown.lines


def test_no_password_is_sent_to_ask_after_a_call(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: as_json(RECORD)
    login = {"OPENFAAS_USER": "admin", "OPENFAAS_PASSWORD": "secret"}
    assert holdfast("calls", "show", CALL_ID, "-g", gateway.url, environ=login).code == 0
    assert gateway.request().all("Authorization") == []


@pytest.mark.parametrize(("status", "code"), OUTCOMES)
def test_waiting_for_a_call_ends_with_a_code_that_tells_the_outcome(
    gateway: FakeGateway, holdfast: Holdfast, status: str, code: int
) -> None:
    answers = iter([running(), record(status)])
    gateway.answering = lambda _: as_json(next(answers))
    ended = holdfast("calls", "wait", CALL_ID, "-g", gateway.url, "--timeout", "30s")
    assert ended.code == code, ended.err
    assert status_in(ended.lines) == status
    assert "?wait=30.000s" in gateway.request().target


def test_a_call_that_goes_on_after_the_time_to_wait_is_told_apart(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: as_json(running())
    ended = holdfast("calls", "wait", CALL_ID, "-g", gateway.url, "--timeout", "1ms")
    assert (ended.code, status_in(ended.lines)) == (8, "running")


@pytest.mark.parametrize(("status", "code"), [(200, 0), (404, 6), (500, 6)])
def test_a_result_is_printed_byte_for_byte_with_the_codes_of_a_synchronous_call(
    gateway: FakeGateway, holdfast: Holdfast, status: int, code: int
) -> None:
    body = bytes(range(256))
    gateway.answering = lambda _: Scripted(status, {"X-Call-Id": CALL_ID}, body)
    ended = holdfast("calls", "result", CALL_ID, "-g", gateway.url)
    assert (ended.code, ended.out) == (code, body)
    assert gateway.request().target == f"/async-function/{CALL_ID}/result"


def test_a_result_that_is_not_there_yet_is_the_gateways_refusal(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: Scripted(409, {}, b"the call has no result: it is running.\n")
    ended = holdfast("calls", "result", CALL_ID, "-g", gateway.url)
    assert (ended.code, ended.out) == (6, b"")
    assert "it is running" in ended.err


@pytest.mark.parametrize("command", ["show", "wait", "result", "cancel", "tail"])
def test_an_unknown_call_gives_code_5_and_says_where_ids_come_from(
    gateway: FakeGateway, holdfast: Holdfast, command: str
) -> None:
    gateway.answering = lambda _: Scripted(404, {}, b"there is no call.\n")
    ended = holdfast("calls", command, CALL_ID, "-g", gateway.url)
    assert (ended.code, ended.out) == (5, b"")
    assert "invoke --async" in ended.err


def test_what_cannot_be_an_id_is_refused_before_anything_is_sent(gateway: FakeGateway, holdfast: Holdfast) -> None:
    assert holdfast("calls", "show", "../system/functions", "-g", gateway.url).code == 2
    assert gateway.received.empty()


def test_cancelling_is_a_delete(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: Scripted(202, {"X-Call-Id": CALL_ID})
    ended = holdfast("calls", "cancel", CALL_ID, "-g", gateway.url)
    assert (ended.code, ended.lines) == (0, [f"Cancelled: {CALL_ID}"])
    request = gateway.request()
    assert (request.method, request.target) == ("DELETE", f"/async-function/{CALL_ID}")


def test_cancelling_what_has_ended_is_an_error(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: Scripted(409, {}, b"it has ended already.\n")
    ended = holdfast("calls", "cancel", CALL_ID, "-g", gateway.url)
    assert (ended.code, ended.out) == (6, b"")
    assert "ended already" in ended.err


@pytest.mark.parametrize(("status", "code"), OUTCOMES)
def test_each_change_of_a_call_is_a_line(gateway: FakeGateway, holdfast: Holdfast, status: str, code: int) -> None:
    gateway.answering = lambda _: Scripted(200, {}, stream(running(), record(status)))
    ended = holdfast("calls", "tail", CALL_ID, "-g", gateway.url, "-o", "json")
    assert [json.loads(line)["status"] for line in ended.lines] == ["running", status]
    assert ended.code == code


def invoking(status: str, **changed: Any) -> Any:
    """A gateway whose call ends so."""

    def answering(request: Request) -> Scripted:
        path = request.target.partition("?")[0]
        if path == f"/async-function/{CALL_ID}":
            return as_json(record(status, **changed))
        if path == f"/async-function/{CALL_ID}/result":
            return Scripted(RECORD["result"]["status"], {"X-Call-Id": CALL_ID}, b"banner")
        return like_a_gateway(request)

    return answering


def test_an_asynchronous_call_that_is_waited_for_prints_the_answer_alone(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    gateway.answering = invoking("succeeded")
    ended = holdfast("invoke", "--async", "--wait", "figlet", "-g", gateway.url, stdin=b"Hi")
    assert (ended.code, ended.out) == (0, b"banner")
    assert CALL_ID in ended.err


@pytest.mark.parametrize(("status", "code"), [("failed", 6), ("cancelled", 7), ("expired", 7), ("running", 8)])
def test_a_call_that_ends_without_an_answer_says_why(
    gateway: FakeGateway, holdfast: Holdfast, status: str, code: int
) -> None:
    gateway.answering = invoking(status, result=None, reason="the function cannot be reached")
    ended = holdfast("invoke", "-a", "--wait", "figlet", "-g", gateway.url, "--timeout", "200ms", stdin=b"Hi")
    assert (ended.code, ended.out) == (code, b"")
    assert f"the call is {status}. the function cannot be reached" in ended.err


def paged(count: int) -> Any:
    """A gateway that lists calls in pages, of which the first is empty: what it looked through held none."""

    def answering(request: Request) -> Scripted:
        query = dict(parse_qsl(request.target.partition("?")[2]))
        if "before" not in query:
            return as_json({"calls": [], "next": "HOLDFAST_calls:9,OF_x:1"})
        begin = 0 if ":9," in query["before"] else int(query["before"])
        end = min(begin + 100, count)
        calls = [record(id=f"id-{number}") for number in range(begin, end)]
        return as_json({"calls": calls, "next": str(end) if end < count else None})

    return answering


def test_calls_are_listed_page_after_page_up_to_the_limit(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = paged(250)
    ended = holdfast("calls", "list", "-g", gateway.url)
    assert ended.code == 0, ended.err
    assert ended.lines[0].split() == ["Call", "Function", "Status", "Accepted", "Runs", "Answer", "Reason"]
    assert ended.lines[1].split() == ["id-0", "figlet", "succeeded", "2026-01-31T08:00:00.000000Z", "1", "200"]
    assert len(ended.lines) == 51
    assert "more than 50" in ended.err
    ended = holdfast("calls", "list", "--limit", "250", "-o", "json", "-g", gateway.url)
    assert [call["id"] for call in json.loads(ended.out)] == [f"id-{number}" for number in range(250)]
    assert "more than" not in ended.err


def test_filters_of_the_list_are_the_apis_and_the_password_is_sent(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: as_json({"calls": [], "next": None})
    filters = ("--function", "figlet.dev", "--queue", "slow", "--status", "failed")
    login = {"OPENFAAS_USER": "admin", "OPENFAAS_PASSWORD": "secret"}
    ended = holdfast("calls", "list", *filters, "-g", gateway.url, environ=login)
    assert (ended.code, ended.out, ended.err) == (0, b"", "No calls.\n")
    request = gateway.request()
    assert dict(parse_qsl(request.target.partition("?")[2])) == {
        "function": "figlet.dev",
        "queue": "slow",
        "status": "failed",
        "limit": "200",
    }
    assert request.all("Authorization") != []
    assert holdfast("calls", "list", "--status", "done", "-g", gateway.url).code == 2
