"""From an empty folder to functions that answer, with the command line and a real `holdfast serve`."""

import json
import re
from pathlib import Path

import pytest

from tests.acceptance.cli.conftest import Holdfast, Server, on_a_terminal
from tests.support.bundles import wheel

GREETING = "def text(name):\n    return f'Good day, {name}.'\n"
HANDLER = "import greeting\n\ndef handle(event, context):\n    return greeting.text(event.body.decode().strip())\n"


@pytest.fixture
def project(user: Holdfast, tmp_path: Path) -> Holdfast:
    """The command line in a folder of its own, for the user who runs the server."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Holdfast(folder, user.environ)


def begin(project: Holdfast, name: str, handler: str = HANDLER) -> Path:
    """A function with a library of its own; gives its folder."""
    assert project("new", name, "--lang", "python3-http").code == 0
    folder = project.home / name
    (folder / "handler.py").write_text(handler)
    library = wheel(folder, "greeting", GREETING)
    (folder / "requirements.txt").write_text(f"./{library.name}\n")
    return folder


def test_a_handler_with_a_requirement_is_deployed_by_one_command_and_answers(project: Holdfast, server: Server) -> None:
    begin(project, "greet")
    ended = project("up", "-f", "stack.yml", name="faas")
    assert ended.code == 0, ended.err
    assert ended.lines == [f"greet  {server.gateway}/function/greet.openfaas-fn"]
    assert "Successfully installed greeting-1.0" in ended.err
    assert project("invoke", "greet", stdin=b"Ada\n").out == b"Good day, Ada."
    assert re.search(r"bundle:greet@sha256:[0-9a-f]{64}", project("describe", "greet").out.decode())
    again = project("up", "--output", "json")
    assert "there already" in again.err
    assert json.loads(again.out)[0]["updated"] is True
    assert project("remove").lines == ["Removed: greet"]
    assert project("describe", "greet").code == 5


@pytest.mark.parametrize(("lang", "answer"), [("python3", "Hello, Ada!"), ("dockerfile", "Hello, Ada! This was")])
def test_a_function_that_was_begun_works_as_it_is(project: Holdfast, lang: str, answer: str) -> None:
    assert project("new", "begun", "--lang", lang).code == 0
    ended = project("up")
    assert ended.code == 0, ended.err
    assert project("invoke", "begun", stdin=b"Ada").out.decode().startswith(answer)


def test_a_requirement_that_is_not_to_be_had_is_told_in_pips_words(project: Holdfast) -> None:
    folder = begin(project, "wants")
    (folder / "requirements.txt").write_text("--no-index\nno-such-library==9.9\n")
    ended = project("up")
    assert (ended.code, ended.out) == (1, b"")
    assert "its requirements cannot be installed" in ended.err
    assert "No matching distribution found for no-such-library==9.9" in ended.err
    assert project("describe", "wants").code == 5


def test_a_handler_that_does_not_start_is_told_in_its_own_words_and_the_one_before_serves(project: Holdfast) -> None:
    folder = begin(project, "changes")
    assert project("up").code == 0
    (folder / "handler.py").write_text("print('reading the key')\nraise RuntimeError('the key is missing')\n")
    ended = project("up", "--timeout", "30s")
    assert (ended.code, ended.out) == (9, b"")
    assert "changes is deployed but does not start" in ended.err
    assert "RuntimeError: the key is missing" in ended.err
    assert "holdfast logs changes" in ended.err
    assert project("invoke", "changes", stdin=b"Ada").out == b"Good day, Ada."


def test_build_push_and_deploy_are_the_parts_of_up(project: Holdfast) -> None:
    begin(project, "parts")
    built = project("build")
    assert (built.code, project("up", "--skip-push").code) == (0, 0)
    assert project("deploy").code == 6  # not pushed yet
    pushed = project("push")
    assert (pushed.code, pushed.out) == (0, built.out), pushed.err
    assert project("deploy", "--env", "A=1").code == 0
    assert json.loads(project("describe", "parts", "-o", "json").out)["envVars"] == {"A": "1"}
    assert project("invoke", "parts", stdin=b"Ada").out == b"Good day, Ada."


def test_a_deployment_without_a_file_reads_its_secret_and_scales(project: Holdfast) -> None:
    assert project("secret", "create", "api-key", stdin=b"open sesame\n").code == 0
    assert project("secret", "list").lines == ["api-key"]
    shell = "sh -c 'cat $HOLDFAST_SECRETS/api-key'"
    ended = project("deploy", "--name", "reads", "--image", "x", "--fprocess", shell, "--secret", "api-key")
    assert ended.code == 0, ended.err
    assert project("invoke", "reads").out == b"open sesame"
    assert project("scale", "reads", "--replicas", "2").code == 0
    assert project("ready", "reads").code == 0
    assert json.loads(project("describe", "reads", "-o", "json").out)["replicas"] == 2
    missing = project("deploy", "--name", "reads2", "--image", "x", "--fprocess", "cat", "--secret", "none")
    assert missing.code == 6
    assert "no secret 'none'" in missing.err


def test_namespaces_hold_functions_of_the_same_name(project: Holdfast) -> None:
    assert project("namespace", "create", "staging", "--label", "team=pay").code == 0
    deploy = ("deploy", "--name", "same", "--image", "x", "--fprocess")
    assert project(*deploy, "echo -n here").code == 0
    assert project(*deploy, "echo -n there", "-n", "staging").code == 0
    assert project("invoke", "same").out == b"here"
    assert project("invoke", "same.staging").out == project("invoke", "same", "-n", "staging").out == b"there"
    assert project("namespace", "remove", "staging").code == 6
    assert project("remove", "same.staging").code == 0
    assert project("namespace", "remove", "staging").code == 0
    assert project("namespaces").lines == ["openfaas-fn"]


def test_a_sample_is_deployed_under_another_name(project: Holdfast) -> None:
    ended = project("store", "deploy", "echo", "--name", "parrot")
    assert ended.code == 0, ended.err
    assert project("invoke", "parrot", stdin=b"hi").out == b"hi"


def test_a_bar_is_drawn_on_a_terminal_only(project: Holdfast) -> None:
    begin(project, "bars")
    assert project("build").code == 0
    assert "##" not in project("up").err
    (project.home / "bars" / "more.txt").write_text("other content")
    assert project("build").code == 0
    assert b"####" in on_a_terminal(project, "push", environ={"TERM": "xterm"}, stream="stderr")
