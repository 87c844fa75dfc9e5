"""`holdfast list`, `describe`, `logs` and `version`."""

import base64
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.acceptance.cli.conftest import (
    ECHO,
    FIGLET,
    FakeGateway,
    Holdfast,
    Request,
    Scripted,
    as_json,
    like_a_gateway,
    on_a_terminal,
)

LINES = [
    {
        "name": "figlet",
        "namespace": "openfaas-fn",
        "instance": "figlet-1",
        "timestamp": f"2026-01-31T08:00:0{n}Z",
        "text": f"line {n}\n",
    }
    for n in range(3)
]
AS_LINES = b"".join(json.dumps(line).encode() + b"\n" for line in LINES)


def test_list_shows_each_function_with_its_calls_and_replicas(gateway: FakeGateway, holdfast: Holdfast) -> None:
    ended = holdfast("list", "-g", gateway.url)
    assert ended.code == 0
    assert [line.split() for line in ended.lines] == [
        ["Function", "Invocations", "Replicas"],
        ["echo", "12", "1/1"],
        ["figlet", "3", "1/1"],
    ]


def test_list_can_be_sorted_short_long_or_json(gateway: FakeGateway, holdfast: Holdfast) -> None:
    assert holdfast("list", "-q", "-g", gateway.url).lines == ["echo", "figlet"]
    assert holdfast("list", "-q", "--sort", "creation", "-g", gateway.url).lines == ["echo", "figlet"]
    assert holdfast("list", "-q", "--sort", "invocations", "-g", gateway.url).lines == ["echo", "figlet"]
    assert "2026-01-31T08:00:00Z" in holdfast("list", "-v", "-g", gateway.url).lines[2]
    assert json.loads(holdfast("list", "--output", "json", "-g", gateway.url).out) == [ECHO, FIGLET]


def test_list_asks_for_the_namespace(gateway: FakeGateway, holdfast: Holdfast) -> None:
    holdfast("list", "-n", "dev", "-g", gateway.url)
    assert gateway.request().target == "/system/functions?namespace=dev"


def test_functions_of_other_namespaces_are_listed_by_the_names_they_are_called_by(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    gateway.answering = lambda _: as_json([FIGLET, {**FIGLET, "namespace": "staging"}])
    assert holdfast("list", "-q", "-g", gateway.url).lines == ["figlet", "figlet.staging"]
    assert [line.split()[0] for line in holdfast("list", "-g", gateway.url).lines[1:]] == ["figlet", "figlet.staging"]
    assert holdfast("list", "-q", "-n", "staging", "-g", gateway.url).lines == ["figlet", "figlet"]


def test_an_empty_list_is_not_an_error(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: as_json(None)  # what a gateway written in Go says for an empty list
    ended = holdfast("list", "-g", gateway.url)
    assert (ended.code, len(ended.lines)) == (0, 1)


def test_describe_shows_where_to_call_and_what_it_is(gateway: FakeGateway, holdfast: Holdfast) -> None:
    ended = holdfast("describe", "figlet", "-g", gateway.url)
    assert ended.code == 0
    for expected in ("ready", "team: banners", f"{gateway.url}/async-function/figlet.openfaas-fn"):
        assert expected in ended.out.decode()
    assert json.loads(holdfast("describe", "figlet", "-o", "json", "-g", gateway.url).out) == FIGLET


def test_describe_shows_limits_and_leaves_out_what_is_empty(gateway: FakeGateway, holdfast: Holdfast) -> None:
    limits = {"memory": "64Mi", "cpu": ""}
    gateway.answering = lambda _: as_json({**FIGLET, "limits": limits, "readOnlyRootFilesystem": True})
    text = holdfast("describe", "figlet", "-g", gateway.url).out.decode()
    assert "Limits:      memory: 64Mi\n" in text
    assert "Read-only:   yes\n" in text
    assert "cpu" not in text
    assert "Requests:" not in text


def test_describe_of_an_unknown_function_suggests_others(gateway: FakeGateway, holdfast: Holdfast) -> None:
    ended = holdfast("describe", "ecko", "-g", gateway.url)
    assert (ended.code, ended.out) == (5, b"")
    assert "Did you mean echo?" in ended.err


def test_logs_prints_the_text_of_each_line(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: Scripted(200, {}, AS_LINES)
    assert holdfast("logs", "figlet", "-g", gateway.url).lines == ["line 0", "line 1", "line 2"]
    assert holdfast("logs", "figlet", "-t", "-g", gateway.url).lines[0] == "2026-01-31T08:00:00Z figlet-1  line 0"
    assert holdfast("logs", "figlet", "-o", "json", "-g", gateway.url).out == AS_LINES


def test_logs_asks_for_what_was_wanted(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: Scripted(200, {}, AS_LINES)
    since = "2026-01-31T08:00:00Z"
    common = ("--instance", "a", "-n", "dev", "-g", gateway.url)
    holdfast("logs", "figlet", "--tail", "5", "--since", since, *common)
    target = gateway.request().target
    holdfast("logs", "figlet", "--lines", "5", "--since-time", since, *common)  # faas-cli's names
    assert gateway.request().target == target
    for expected in (
        "name=figlet",
        "tail=5",
        "since=2026-01-31T08%3A00%3A00Z",
        "instance=a",
        "namespace=dev",
        "follow=false",
    ):
        assert expected in target


def test_followed_lines_are_printed_when_they_come_until_ctrl_c(gateway: FakeGateway, holdfast: Holdfast) -> None:
    more = threading.Event()

    def lines() -> Iterator[bytes]:
        yield json.dumps(LINES[0]).encode() + b"\n"
        more.wait(30)

    gateway.answering = lambda _: Scripted(200, {}, lines())
    process = holdfast.start("logs", "figlet", "-f", "-g", gateway.url, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"line 0\n"
    assert "follow=true" in gateway.request().target
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    more.set()
    assert (process.returncode, err.strip()) == (130, b"")


def test_logs_of_an_unknown_function_suggests_others(gateway: FakeGateway, holdfast: Holdfast) -> None:
    ended = holdfast("logs", "figlett", "-g", gateway.url)
    assert ended.code == 5
    assert "Did you mean figlet?" in ended.err


def needs_password(request: Request) -> Scripted:
    expected = "Basic " + base64.b64encode(b"admin:secret").decode()
    if request.target.startswith("/system") and request.all("Authorization") != [expected]:
        return Scripted(401, {"WWW-Authenticate": 'Basic realm="Restricted"'}, b"no\n")
    return like_a_gateway(request)


def test_a_missing_password_is_answered_with_how_to_log_in(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = needs_password
    ended = holdfast("list", "-g", gateway.url)
    assert (ended.code, ended.out) == (4, b"")
    assert "OPENFAAS_PASSWORD" in ended.err


def test_a_wrong_password_is_named_as_such(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = needs_password
    wrong = {"OPENFAAS_USER": "admin", "OPENFAAS_PASSWORD": "guess"}
    ended = holdfast("list", "-g", gateway.url, environ=wrong)
    assert ended.code == 4
    assert "does not accept" in ended.err
    assert "guess" not in ended.err


def test_a_login_of_faas_cli_is_used(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = needs_password
    token = base64.b64encode(b"admin:secret").decode()
    (holdfast.home / ".openfaas").mkdir()
    (holdfast.home / ".openfaas" / "config.yml").write_text(
        f"auths:\n- gateway: {gateway.url}\n  auth: basic\n  token: {token}\n"
    )
    assert holdfast("list", "-q", "-g", gateway.url).lines == ["echo", "figlet"]


def test_something_else_on_the_port_is_not_mistaken_for_a_gateway(gateway: FakeGateway, holdfast: Holdfast) -> None:
    for body in (b"<html>", b'{"name": 1}', b"[1]", b'[{"image": "x"}]'):
        gateway.answering = lambda _, body=body: Scripted(200, {}, body)  # type: ignore[misc]
        ended = holdfast("list", "-g", gateway.url)
        assert ended.code == 6
        assert "not an OpenFaaS gateway's" in ended.err


def test_a_refusal_of_the_gateway_is_shown(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: Scripted(502, {}, b"the provider cannot be reached\n")
    ended = holdfast("list", "-g", gateway.url)
    assert ended.code == 6
    assert "502 the provider cannot be reached" in ended.err


def test_version_tells_both_sides(gateway: FakeGateway, holdfast: Holdfast) -> None:
    text = holdfast("version", "-g", gateway.url).out.decode()
    assert "client    holdfast 0.1.0" in text
    assert f"gateway   0.1.0 at {gateway.url}" in text


def test_version_without_a_gateway_still_tells_the_clients(holdfast: Holdfast) -> None:
    ended = holdfast("version", "-g", "http://127.0.0.1:9")
    assert ended.code == 0
    assert ended.lines[0].startswith("client    holdfast 0.1.0")
    assert "cannot reach" in ended.err
    assert holdfast("version", "--short-version").out == b"0.1.0\n"


def test_colours_appear_on_a_terminal_only_and_not_when_unwanted(gateway: FakeGateway, holdfast: Holdfast) -> None:
    arguments = ("list", "-g", gateway.url)
    assert b"\x1b[" in on_a_terminal(holdfast, *arguments, environ={"TERM": "xterm"})
    assert b"\x1b[" not in on_a_terminal(holdfast, *arguments, environ={"TERM": "xterm", "NO_COLOR": "1"})
    assert b"\x1b[" not in holdfast(*arguments).out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("name", ["holdfast", "faas"])
def test_completion_is_for_the_name_it_was_asked_by(holdfast: Holdfast, shell: str, name: str) -> None:
    script = holdfast("completion", shell, name=name, environ={"PATH": os.environ["PATH"]}).out.decode()
    assert f"_{name.upper()}_COMPLETE={shell}_complete" in script


def test_function_names_are_completed_and_errors_never_reach_the_prompt(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    asking = {"_HOLDFAST_COMPLETE": "bash_complete", "COMP_WORDS": "holdfast invoke fi", "COMP_CWORD": "2"}
    assert holdfast(environ={**asking, "OPENFAAS_URL": gateway.url}).out == b"plain,figlet\n"
    ended = holdfast(environ={**asking, "OPENFAAS_URL": "http://127.0.0.1:9"})
    assert (ended.out.strip(), ended.err) == (b"", "")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ready f", ["plain,figlet"]),
        ("remove echo f", ["plain,figlet"]),
        ("secret update a", ["plain,api-key"]),
        ("secret remove b", []),
        ("secret create a", []),
        ("store deploy f", ["plain,figlet"]),
        ("new x --lang python3-", ["plain,python3-http"]),
        ("sec", ["plain,secret"]),
    ],
)
def test_what_there_is_to_choose_from_is_completed(
    gateway: FakeGateway, holdfast: Holdfast, words: str, offered: list[str]
) -> None:
    gateway.answering = lambda request: (
        as_json([{"name": "api-key"}]) if "secrets" in request.target else like_a_gateway(request)
    )
    typed = f"holdfast {words}"
    asking = {"_HOLDFAST_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    ended = holdfast(environ={**asking, "OPENFAAS_URL": gateway.url})
    assert ended.err == ""
    assert ended.lines == offered or (ended.lines, offered) == ([""], [])


def test_an_unknown_command_suggests_one_that_exists(holdfast: Holdfast) -> None:
    ended = holdfast("lst")
    assert ended.code == 2
    assert "Did you mean list?" in ended.err


def test_a_setting_that_cannot_be_used_is_exit_code_2(holdfast: Holdfast) -> None:
    ended = holdfast("worker", environ={"ack_wait": "6O"})
    assert ended.code == 2
    assert "ack_wait='6O' cannot be used: expected a duration" in ended.err


def test_describe_shows_why_the_newest_version_does_not_start_in_its_own_words(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    error = {"time": "2026-01-31T08:00:00Z", "instance": "figlet-2", "message": "it ended:\nTraceback\nKeyError: 'key'"}
    broken = {**FIGLET, "updatedReplicas": 0, "restarts": 3, "lastError": error, "warnings": ["no cpu limit"]}
    gateway.answering = lambda _: as_json(broken)
    lines = holdfast("describe", "figlet", "-g", gateway.url).lines
    assert "ready, in part or wholly by the version before: the newest does not start" in lines[2]
    begin = next(number for number, line in enumerate(lines) if line.startswith("Last error:"))
    assert [line[13:].strip() for line in lines[begin : begin + 3]] == [
        "2026-01-31T08:00:00Z figlet-2: it ended:",
        "Traceback",
        "KeyError: 'key'",
    ]
    assert any(line.startswith("Warnings:") and line.endswith("no cpu limit") for line in lines)


def test_describe_says_that_a_function_at_zero_is_started_by_a_call(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: as_json({**FIGLET, "replicas": 0, "availableReplicas": 0})
    assert "scaled to zero, the next call starts it" in holdfast("describe", "figlet", "-g", gateway.url).out.decode()
