"""`holdfast queue`: looking at queues, holding and emptying them, from the command line."""

import json
from typing import Any

import pytest

from tests.acceptance.cli.conftest import FakeGateway, Holdfast, Request, Scripted, Server, as_json

QUEUE: dict[str, Any] = {
    "name": "slow",
    "waiting": 1204,
    "scheduled": 3,
    "running": 4,
    "oldest_age_seconds": 61.204,
    "paused": False,
    "paused_until": None,
    "workers": 1,
    "max_inflight": 4,
    "functions": [{"function": "transcode.openfaas-fn", "waiting": 1204}],
}
IDLE = {**QUEUE, "name": "faas-request", "waiting": 0, "oldest_age_seconds": None, "functions": [], "workers": 0}


def test_queues_are_listed_for_people_and_for_scripts(gateway: FakeGateway, holdfast: Holdfast) -> None:
    paused = {**QUEUE, "name": "held", "paused": True, "paused_until": "2026-01-31T08:00:00Z"}
    gateway.answering = lambda _: as_json([IDLE, paused, {**QUEUE, "paused": True}])
    ended = holdfast("queue", "list", "-g", gateway.url)
    assert ended.code == 0, ended.err
    assert ended.lines[0].split() == ["Queue", "Waiting", "Scheduled", "Running", "Oldest", "Workers", "Paused"]
    assert ended.lines[1].split() == ["faas-request", "0", "3", "4", "0", "no"]
    assert ended.lines[2].split()[-2:] == ["until", "2026-01-31T08:00:00Z"]
    assert ended.lines[3].split() == ["slow", "1204", "3", "4", "1m", "1s", "1", "until", "resumed"]
    assert gateway.request().target == "/system/queues"
    assert json.loads(holdfast("queue", "list", "-o", "json", "-g", gateway.url).out)[0] == IDLE


def test_one_is_shown_with_its_functions_and_workers(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: as_json(QUEUE)
    ended = holdfast("queue", "show", "slow", "-g", gateway.url)
    assert ended.code == 0, ended.err
    assert {
        "Waiting:   1204",
        "Oldest:    1m 1s",
        "Workers:   1, 4 calls at once",
        "Functions: transcode.openfaas-fn: 1204 waiting",
    } <= set(ended.lines)
    assert gateway.request().target == "/system/queues/slow"
    assert json.loads(holdfast("queue", "show", "slow", "-o", "json", "-g", gateway.url).out) == QUEUE
    gateway.answering = lambda _: as_json(IDLE)
    assert "Workers:   none" in holdfast("queue", "show", "faas-request", "-g", gateway.url).lines


@pytest.mark.parametrize(
    ("arguments", "target", "body"),
    [
        (["pause", "slow"], "/system/queues/slow/pause", {}),
        (["pause", "slow", "--for", "1m30s"], "/system/queues/slow/pause", {"for": "90.000s"}),
        (["resume", "slow"], "/system/queues/slow/resume", {}),
    ],
)
def test_pausing_and_resuming_show_how_the_queue_is_then(
    gateway: FakeGateway, holdfast: Holdfast, arguments: list[str], target: str, body: dict[str, str]
) -> None:
    gateway.answering = lambda _: as_json({**QUEUE, "paused": True})
    ended = holdfast("queue", *arguments, "-g", gateway.url)
    assert (ended.code, "Paused:    until resumed" in ended.lines) == (0, True), ended.err
    request = gateway.request()
    assert (request.method, request.target, json.loads(request.body)) == ("POST", target, body)


def test_a_purge_is_sent_until_it_is_complete(gateway: FakeGateway, holdfast: Holdfast) -> None:
    answers = iter([{"purged": 30000, "complete": False}, {"purged": 5, "complete": True}])
    gateway.answering = lambda _: as_json(next(answers))
    ended = holdfast("queue", "purge", "slow", "--function", "transcode.dev", "-g", gateway.url)
    assert (ended.code, ended.lines) == (0, ["Cancelled: 30005 calls of slow"]), ended.err
    for _ in range(2):
        request = gateway.request()
        assert (request.target, json.loads(request.body)) == (
            "/system/queues/slow/purge",
            {"function": "transcode.dev"},
        )
    gateway.answering = lambda _: as_json({"purged": 0, "complete": True})
    ended = holdfast("queue", "purge", "slow", "--all", "-o", "json", "-g", gateway.url)
    assert json.loads(ended.out) == {"purged": 0}
    assert json.loads(gateway.request().body) == {}


@pytest.mark.parametrize("which", [[], ["--all", "--function", "x"]])
def test_nothing_is_purged_without_saying_what(gateway: FakeGateway, holdfast: Holdfast, which: list[str]) -> None:
    ended = holdfast("queue", "purge", "slow", *which, "-g", gateway.url)
    assert ended.code == 2
    assert "--function NAME, or --all" in ended.err
    assert gateway.received.empty()


@pytest.mark.parametrize("command", [["show"], ["pause"], ["resume"], ["purge", "--all"]])
def test_an_unknown_queue_is_code_5_and_a_refusal_is_code_6(
    gateway: FakeGateway, holdfast: Holdfast, command: list[str]
) -> None:
    gateway.answering = lambda _: Scripted(404, {}, b"there is no queue none.\n")
    ended = holdfast("queue", *command, "none", "-g", gateway.url)
    assert ended.code == 5
    assert "holdfast queue list" in ended.err
    gateway.answering = lambda _: Scripted(503, {}, b"NATS cannot be asked now\n")
    assert holdfast("queue", *command, "slow", "-g", gateway.url).code == 6


def test_names_of_queues_are_completed(gateway: FakeGateway, holdfast: Holdfast) -> None:
    def answering(request: Request) -> Scripted:
        return as_json([QUEUE, IDLE]) if request.target == "/system/queues" else Scripted(404)

    gateway.answering = answering
    for typed in ("holdfast queue pause sl", "holdfast calls list --queue sl", "holdfast dead replay --queue sl"):
        asking = {"_HOLDFAST_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        assert holdfast(environ={**asking, "OPENFAAS_URL": gateway.url}).lines == ["plain,slow"]


def test_a_paused_queue_keeps_its_calls_until_they_are_purged_or_it_goes_on(user: Holdfast, server: Server) -> None:
    assert server.gateway
    paused = user("queue", "pause", "faas-request", "--for", "10m")
    assert (paused.code, "Paused:    until " in paused.out.decode()) == (0, True), paused.err
    try:
        first, second = (
            user("invoke", "--async", name, stdin=b"x").out.decode().strip() for name in ("echo", "figlet")
        )
        listed = json.loads(user("calls", "list", "--status", "waiting", "-o", "json").out)
        assert [call["id"] for call in listed] == [second, first]
        assert user("queue", "purge", "faas-request", "--function", "echo").lines == [
            "Cancelled: 1 call of faas-request"
        ]
        assert user("calls", "wait", first).code == 7
    finally:
        assert "Paused:    no" in user("queue", "resume", "faas-request").lines
    assert user("calls", "wait", second).code == 0
    table = user("calls", "list", "--limit", "2").lines
    assert table[0].split() == ["Call", "Function", "Status", "Accepted", "Runs", "Answer", "Reason"]
    assert table[1].split()[:3] == [second, "figlet", "succeeded"]
    assert table[2].split()[:3] == [first, "echo", "cancelled"]
