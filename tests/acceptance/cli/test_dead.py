"""`holdfast dead`: what failed for good, from the command line."""

import json
from typing import Any

import httpx
import pytest

from tests.acceptance.cli.conftest import CALL_ID, FakeGateway, Holdfast, Request, Scripted, Server, as_json

LETTER: dict[str, Any] = {
    "id": CALL_ID,
    "kind": "call",
    "function": "charge",
    "namespace": "openfaas-fn",
    "queue": "faas-request",
    "accepted_at": "2026-01-31T08:00:00.000000Z",
    "died_at": "2026-01-31T08:01:00.000000Z",
    "reason": "answered 500",
    "runs": 3,
    "status": 500,
    "callback": None,
}
DESCRIBED = {
    **LETTER,
    "attempts": [{"started_at": "2026-01-31T08:00:00.001000Z", "status": 500, "error": None}],
    "callback_url": "https://example.com/done",
    "request": {
        "method": "POST",
        "target": "/pay?q=1",
        "headers": [["Authorization", "(hidden)"], ["X-Evil", "a\x1b[2Jb"]],
        "body": "first\tline\n\x1b]0;title\x07 second",
        "bytes": 40,
    },
    "answer": {"status": 500, "headers": [["Content-Type", "text/plain"]], "body": "broken", "bytes": 6},
}


def letter(number: int, **changed: Any) -> dict[str, Any]:
    return {**LETTER, "id": f"id-{number}", **changed}


def with_letters(count: int) -> Any:
    """A gateway that gives them in pages."""

    def answering(request: Request) -> Scripted:
        query = dict(pair.split("=") for pair in request.target.partition("?")[2].split("&"))
        after, limit = int(query["after"]), int(query["limit"])
        page = [letter(number) for number in range(after + 1, min(after + limit, count) + 1)]
        following = after + limit if after + limit < count else None
        return as_json({"dead_letters": page, "next": following})

    return answering


def acting(request: Request) -> Scripted:
    """A gateway that has a letter of every id but `id-9`, and two of every function."""
    wanted = json.loads(request.body)
    if wanted.get("id") == "id-9":
        return Scripted(404, {}, b"there is no dead letter of call id-9.\n")
    found = [letter(1) | {"id": wanted["id"]}] if "id" in wanted else [letter(1), letter(2, kind="callback")]
    return as_json({"replayed" if "replay" in request.target else "dropped": found, "dry_run": wanted["dry_run"]})


def test_dead_letters_are_listed_for_people_and_for_scripts(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = with_letters(2)
    ended = holdfast("dead", "list", "-g", gateway.url)
    assert ended.code == 0, ended.err
    assert ended.lines[0].split() == ["Call", "Kind", "Function", "Queue", "Died", "Runs", "Answer", "Reason"]
    row = ["id-1", "call", "charge", "faas-request", "2026-01-31T08:01:00.000000Z", "3", "500", "answered", "500"]
    assert ended.lines[1].split() == row
    assert json.loads(holdfast("dead", "list", "-o", "json", "-g", gateway.url).out) == [letter(1), letter(2)]
    gateway.answering = with_letters(0)
    ended = holdfast("dead", "list", "-g", gateway.url)
    assert (ended.code, ended.out, ended.err) == (0, b"", "No dead letters.\n")


def test_pages_are_followed_as_far_as_the_limit_and_more_is_told(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = with_letters(1200)
    ended = holdfast("dead", "list", "--limit", "1100", "-g", gateway.url)
    assert ended.code == 0
    assert [line.split()[0] for line in ended.lines[1:]] == [f"id-{number}" for number in range(1, 1101)]
    assert "more than 1100" in ended.err
    assert "more than" not in holdfast("dead", "list", "--limit", "1200", "-g", gateway.url).err


def test_filters_are_the_queries_of_the_api(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = with_letters(0)
    filters = ("--function", "charge.staging", "--queue", "slow", "--kind", "callback")
    assert holdfast("dead", "list", *filters, "-g", gateway.url).code == 0
    target = gateway.request().target
    assert {"function=charge.staging", "queue=slow", "kind=callback"} <= set(target.partition("?")[2].split("&"))


def test_one_is_shown_with_its_request_and_nothing_in_it_drives_the_terminal(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    gateway.answering = lambda _: as_json(DESCRIBED)
    ended = holdfast("dead", "show", CALL_ID, "--kind", "call", "-g", gateway.url)
    assert ended.code == 0, ended.err
    assert gateway.request().target == f"/system/dead-letters/{CALL_ID}?kind=call"
    text = ended.out.decode()
    for expected in ("Reason:   answered 500", "POST /pay?q=1", "Authorization: (hidden)", "first\tline\n", "broken"):
        assert expected in text
    assert "\x1b" not in text
    assert "\x07" not in text
    assert json.loads(holdfast("dead", "show", CALL_ID, "-o", "json", "-g", gateway.url).out) == DESCRIBED


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["id-1", "id-2", "id-1"], [{"id": "id-1"}, {"id": "id-2"}]),
        (["id-1", "--kind", "callback"], [{"id": "id-1", "kind": "callback"}]),
        (["--function", "charge"], [{"function": "charge"}]),
        (["--queue", "slow", "--function", "a.b"], [{"function": "a.b", "queue": "slow"}]),
        (["--all"], [{"all": True}]),
        (["--all", "--kind", "callback"], [{"all": True, "kind": "callback"}]),
    ],
)
@pytest.mark.parametrize("verb", ["replay", "drop"])
def test_what_is_selected_is_sent(
    gateway: FakeGateway, holdfast: Holdfast, verb: str, arguments: list[str], sent: list[dict[str, Any]]
) -> None:
    gateway.answering = acting
    for dry_run in (False, True):
        ended = holdfast("dead", verb, *arguments, *(["--dry-run"] if dry_run else []), "-g", gateway.url)
        assert ended.code == 0, ended.err
        assert all(line.startswith("Would" if dry_run else verb.capitalize()) for line in ended.lines)
        for wanted in sent:
            request = gateway.request()
            assert (request.method, request.target) == ("POST", f"/system/dead-letters/{verb}")
            assert json.loads(request.body) == {**wanted, "dry_run": dry_run}
    assert gateway.received.empty()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say which: an ID, --function, --queue, or --all"),
        (["--kind", "callback"], "say which"),
        (["id-1", "--all"], "not both"),
        (["id-1", "--function", "x"], "not both"),
        (["--all", "--queue", "x"], "leave out --function and --queue"),
        (["../x"], "cannot be a call's id"),
        (["--function", "a/b"], "cannot be a function's name"),
        (["--all", "--kind", "letter"], "is not one of 'call', 'callback'"),
    ],
)
@pytest.mark.parametrize("verb", ["replay", "drop"])
def test_nothing_is_done_without_saying_to_what(
    gateway: FakeGateway, holdfast: Holdfast, verb: str, arguments: list[str], said: str
) -> None:
    ended = holdfast("dead", verb, *arguments, "-g", gateway.url)
    assert ended.code == 2
    assert said in ended.err
    assert gateway.received.empty()


def test_an_id_that_has_no_letter_is_code_5_and_does_not_keep_the_others(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    gateway.answering = acting
    ended = holdfast("dead", "drop", "id-9", "id-1", "-g", gateway.url)
    assert (ended.code, ended.lines) == (5, ["Dropped: id-1  charge, call"])
    assert "keeps no dead letter of call id-9" in ended.err
    assert "holdfast dead list" in ended.err
    ended = holdfast("dead", "replay", "id-9", "id-1", "-o", "json", "-g", gateway.url)
    assert (ended.code, json.loads(ended.out)) == (5, {"replayed": [letter(1)], "dry_run": False})
    gateway.answering = lambda _: Scripted(404)
    assert holdfast("dead", "show", "id-9", "-g", gateway.url).code == 5
    gateway.answering = lambda _: as_json({"dropped": [], "dry_run": False})
    ended = holdfast("dead", "drop", "--all", "-g", gateway.url)
    assert (ended.code, ended.out, ended.err) == (0, b"", "There was nothing to drop.\n")


def test_a_gateway_that_keeps_none_is_a_refusal(gateway: FakeGateway, holdfast: Holdfast) -> None:
    for arguments in (["list"], ["drop", "--all"]):
        ended = holdfast("dead", *arguments, "-g", gateway.url)
        assert ended.code == 6
        assert "404 no such thing" in ended.err


def test_a_failed_call_is_found_and_succeeds_when_it_is_replayed_after_the_repair(
    user: Holdfast, server: Server
) -> None:
    tell(server, "set", {"status": 400, "body": "broken"})  # a status that is not tried again
    call_id = user("invoke", "--async", "chaos", stdin=b"x").out.decode().strip()
    assert user("calls", "wait", call_id).code == 6
    assert [found["id"] for found in json.loads(user("dead", "list", "-o", "json").out)] == [call_id]
    assert "broken" in user("dead", "show", call_id).out.decode()
    assert user("dead", "replay", "--function", "chaos", "--dry-run").lines == [f"Would replay: {call_id}  chaos, call"]
    tell(server, "reset", {})
    assert user("dead", "replay", call_id).lines == [f"Replayed: {call_id}  chaos, call"]
    assert user("calls", "wait", call_id).code == 0
    assert user("dead", "list").err == "No dead letters.\n"


def tell(server: Server, path: str, what: dict[str, Any]) -> None:
    """Set what chaos answers."""
    answer = httpx.post(f"{server.gateway}/function/chaos/{path}", json=what, trust_env=False, timeout=30)
    assert answer.status_code == 200
