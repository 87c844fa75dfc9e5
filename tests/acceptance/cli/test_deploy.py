"""What `deploy`, `remove`, `scale`, `secret`, `namespace`, `ready` and `push` send, and make of what is answered."""

import base64
import json
from pathlib import Path

import pytest

from tests.acceptance.cli.conftest import FIGLET, FakeGateway, Holdfast, Request, Scripted, as_json, like_a_gateway

STACK = """
version: 1.0
provider: {name: openfaas, gateway: GATEWAY}
functions:
  upper:
    image: example/upper:1
    fprocess: tr a-z A-Z
    environment: {LEVEL: "${LEVEL:-info}", SHOUT: on}
    labels: {com.openfaas.scale.min: 2}
    limits: {memory: 64Mi}
  lower:
    fprocess: tr A-Z a-z
    namespace: staging
"""


def accepting(request: Request) -> Scripted:
    """A gateway that takes every change and has everything ready at once."""
    return Scripted(202) if request.method != "GET" else like_a_gateway(request)


def without_them(request: Request) -> Scripted:
    """One where nothing is deployed yet: updates are answered 404."""
    if request.method == "PUT":
        return Scripted(404, {}, b"not deployed\n")
    return Scripted(202) if request.method != "GET" else as_json({**FIGLET, "availableReplicas": 1})


def sent(gateway: FakeGateway) -> list[tuple[str, str, object]]:
    """All changes, in their order."""
    found = []
    while not gateway.received.empty():
        request = gateway.request()
        if request.method != "GET":
            found.append((request.method, request.target, json.loads(request.body)))
    return found


def write_stack(holdfast: Holdfast, text: str = STACK, gateway: str = "http://127.0.0.1:8080") -> Path:
    path = holdfast.home / "stack.yml"
    path.write_text(text.replace("GATEWAY", gateway))
    return path


DEPLOY = ("deploy", "--name", "figlet", "--image", "x/figlet:1", "--fprocess", "figlet")


def test_deploying_updates_first_and_creates_what_is_not_there(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = without_them
    ended = holdfast(*DEPLOY, "-g", gateway.url)
    assert ended.code == 0, ended.err
    assert ended.lines == [f"figlet  {gateway.url}/function/figlet.openfaas-fn"]
    document = {"service": "figlet", "image": "x/figlet:1", "envProcess": "figlet"}
    assert sent(gateway) == [("PUT", "/system/functions", document), ("POST", "/system/functions", document)]
    gateway.answering = accepting
    holdfast(*DEPLOY, "-g", gateway.url)
    assert sent(gateway) == [("PUT", "/system/functions", document)]


def test_every_option_of_a_deployment_is_sent(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = accepting
    options = ["-e", "A=1", "--env", "B==x", "-l", "team=pay", "--annotation", "topic=orders", "--secret", "s1"]
    options += ["--secret", "s2", "--memory-limit", "128Mi", "--cpu-limit", "500m", "--memory-request", "1Gi"]
    options += ["--cpu-request", "1", "--constraint", "a == b", "--readonly", "--update=false", "--replace"]
    ended = holdfast(*DEPLOY, "-n", "staging", "-g", gateway.url, "-o", "json", *options)
    assert ended.code == 0, ended.err
    [(_, _, document)] = sent(gateway)
    assert document == {
        "service": "figlet",
        "image": "x/figlet:1",
        "namespace": "staging",
        "envProcess": "figlet",
        "envVars": {"A": "1", "B": "=x"},
        "labels": {"team": "pay"},
        "annotations": {"topic": "orders"},
        "secrets": ["s1", "s2"],
        "constraints": ["a == b"],
        "limits": {"memory": "128Mi", "cpu": "500m"},
        "requests": {"memory": "1Gi", "cpu": "1"},
        "readOnlyRootFilesystem": True,
    }
    [shown] = json.loads(ended.out)
    assert (shown["name"], shown["namespace"], shown["updated"]) == ("figlet", "staging", True)


def test_a_stack_file_of_the_folder_is_deployed_with_the_environments_values(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    gateway.answering = accepting
    write_stack(holdfast)
    ended = holdfast("deploy", "--no-wait", "-g", gateway.url, environ={"LEVEL": "debug"})
    assert ended.code == 0, ended.err
    assert [document for _, _, document in sent(gateway)] == [
        {
            "service": "upper",
            "image": "example/upper:1",
            "envProcess": "tr a-z A-Z",
            "envVars": {"LEVEL": "debug", "SHOUT": "on"},
            "labels": {"com.openfaas.scale.min": "2"},
            "limits": {"memory": "64Mi"},
        },
        {"service": "lower", "image": "lower:latest", "namespace": "staging", "envProcess": "tr A-Z a-z"},
    ]


@pytest.mark.parametrize("selection", [["--filter", "low*"], ["--regex", "^l"], ["--name", "lower"]])
def test_a_selection_deploys_only_what_is_meant(gateway: FakeGateway, holdfast: Holdfast, selection: list[str]) -> None:
    gateway.answering = accepting
    path = write_stack(holdfast)
    assert holdfast("deploy", "--no-wait", "-f", str(path), "-g", gateway.url, *selection).code == 0
    assert [document["service"] for _, _, document in sent(gateway)] == ["lower"]  # type: ignore[index]


def test_the_gateway_of_a_stack_file_counts_unless_the_command_line_names_one(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    gateway.answering = accepting
    write_stack(holdfast, gateway=gateway.url)
    elsewhere = {"OPENFAAS_URL": "http://127.0.0.1:9"}
    assert holdfast("deploy", "--no-wait", environ=elsewhere).code == 0
    assert holdfast("deploy", "--no-wait", "-g", "http://127.0.0.1:9").code == 3
    write_stack(holdfast)
    assert holdfast("deploy", "--no-wait", environ={"OPENFAAS_URL": gateway.url}).code == 0
    assert len(sent(gateway)) == 4


def test_a_selection_that_leaves_nothing_says_what_was_asked_for_and_what_there_is(holdfast: Holdfast) -> None:
    write_stack(holdfast)
    ended = holdfast("up", "--filter", "up*", "--regex", "low")
    assert ended.code == 1
    assert "has no function for --filter up* and --regex low: it has upper, lower" in ended.err
    assert not ended.err.startswith("holdfast: function")


def test_one_function_that_is_refused_does_not_keep_the_others(gateway: FakeGateway, holdfast: Holdfast) -> None:
    def refusing(request: Request) -> Scripted:
        refused = request.method == "PUT" and b'"upper"' in request.body
        return Scripted(400, {}, b"upper: no such secret\n") if refused else accepting(request)

    gateway.answering = refusing
    write_stack(holdfast)
    ended = holdfast("deploy", "--no-wait", "-g", gateway.url)
    assert ended.code == 6
    assert "did not deploy upper: 400 upper: no such secret" in ended.err
    assert len(ended.lines) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deploy"], "no stack file"),
        (["up"], "no stack file"),
        (["deploy", "--image", "x"], "--image needs --name"),
        (["deploy", "--image", "x", "--name", "x", "--filter", "y"], "leave out -f"),
        (["deploy", "--name", "x"], "--image and --fprocess"),
        (["up", "-f", "none.yml"], "'none.yml' does not exist"),
        (["up", "--regex", "("], "no regular expression"),
        (["store", "deploy", "nothing"], "'nothing' is not one of 'figlet', 'env'"),
        (["ready", "a/b"], "cannot be a function's name"),
        (["deploy", "--image", "x", "--name", "Bad_Name"], "cannot be deployed as a name"),
        (["deploy", "--image", "x", "--name", "x", "--env", "A"], "is not KEY=VALUE"),
        (["deploy", "--image", "x", "--name", "x", "--memory-limit", "lots"], "no quantity such as 128Mi"),
        (["secret", "create", "x", "--from-literal", ""], "the value is empty"),
        (["secret", "create", "x"], "the value is empty"),
        (["new"], "name is missing"),
        (["new", "x"], "--lang is missing"),
        (["remove", "x", "--regex", "y"], "not both"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    gateway: FakeGateway, holdfast: Holdfast, arguments: list[str], said: str
) -> None:
    ended = holdfast(*arguments, environ={"OPENFAAS_URL": gateway.url})
    assert ended.code == 2
    assert said in ended.err
    assert gateway.received.empty()


def test_functions_are_removed_by_name_or_as_the_stack_file_has_them(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = accepting
    assert holdfast("remove", "figlet", "echo.staging", "-g", gateway.url).lines == ["Removed: figlet", "Removed: echo"]
    path = write_stack(holdfast)
    assert holdfast("rm", "-f", str(path), "-g", gateway.url).code == 0
    assert sent(gateway) == [
        ("DELETE", "/system/functions", {"functionName": "figlet"}),
        ("DELETE", "/system/functions?namespace=staging", {"functionName": "echo", "namespace": "staging"}),
        ("DELETE", "/system/functions", {"functionName": "upper"}),
        ("DELETE", "/system/functions?namespace=staging", {"functionName": "lower", "namespace": "staging"}),
    ]


def test_scaling_sends_the_number_and_names_an_unknown_function(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = accepting
    assert holdfast("scale", "figlet", "--replicas", "3", "-g", gateway.url).code == 0
    assert sent(gateway) == [("POST", "/system/scale-function/figlet", {"serviceName": "figlet", "replicas": 3})]
    gateway.answering = lambda request: like_a_gateway(request) if request.method == "GET" else Scripted(404)
    for arguments in (["scale", "figlett", "--replicas", "1"], ["remove", "figlett"]):
        ended = holdfast(*arguments, "-g", gateway.url)
        assert ended.code == 5
        assert "Did you mean figlet?" in ended.err


def test_secrets_are_sent_as_text_or_as_a_files_bytes_and_never_shown(gateway: FakeGateway, holdfast: Holdfast) -> None:
    def with_secrets(request: Request) -> Scripted:
        return as_json([{"name": "api-key"}]) if request.method == "GET" else Scripted(202)

    gateway.answering = with_secrets
    (holdfast.home / "key.bin").write_bytes(b"\0\xff\n")
    at = ("-g", gateway.url)
    assert holdfast("secret", "create", "one", "--from-literal", " open sesame ", *at).out == b"Created: one\n"
    assert holdfast("secret", "create", "two", "--from-file", "key.bin", *at).code == 0
    assert holdfast("secret", "create", "three", *at, stdin=b"from stdin\n").code == 0
    assert holdfast("secret", "create", "four", "--no-trim", *at, stdin=b"\xfe\n").code == 0
    assert holdfast("secret", "create", "api-key", "--replace", *at, stdin=b"new").out == b"Updated: api-key\n"
    assert holdfast("secret", "update", "api-key", "-n", "staging", *at, stdin=b"newer").code == 0
    assert holdfast("secret", "delete", "api-key", *at).code == 0
    here = {"namespace": "openfaas-fn"}
    raw = base64.b64encode(b"\0\xff\n").decode()
    assert sent(gateway) == [
        ("POST", "/system/secrets", {"name": "one", **here, "value": "open sesame"}),
        ("POST", "/system/secrets", {"name": "two", **here, "rawValue": raw}),
        ("POST", "/system/secrets", {"name": "three", **here, "value": "from stdin"}),
        ("POST", "/system/secrets", {"name": "four", **here, "rawValue": base64.b64encode(b"\xfe\n").decode()}),
        ("PUT", "/system/secrets", {"name": "api-key", **here, "value": "new"}),
        ("PUT", "/system/secrets", {"name": "api-key", "namespace": "staging", "value": "newer"}),
        ("DELETE", "/system/secrets", {"name": "api-key", **here}),
    ]
    assert holdfast("secret", "list", *at).lines == ["api-key"]
    assert json.loads(holdfast("secret", "ls", "-o", "json", *at).out) == ["api-key"]
    gateway.answering = lambda _: Scripted(404, {}, b"no\n")
    ended = holdfast("secret", "update", "nothing", "--from-literal", "x", *at)
    assert ended.code == 5
    assert "no secret is called nothing" in ended.err


def test_namespaces_are_made_changed_shown_and_removed(gateway: FakeGateway, holdfast: Holdfast) -> None:
    def with_namespaces(request: Request) -> Scripted:
        if request.method != "GET":
            return Scripted(201)
        one = {"name": "staging", "labels": {"team": "pay"}, "annotations": None}
        return as_json(["openfaas-fn", "staging"] if request.target == "/system/namespaces" else one)

    gateway.answering = with_namespaces
    at = ("-g", gateway.url)
    assert holdfast("namespace", "create", "staging", "-l", "team=pay", *at).out == b"Created: staging\n"
    assert holdfast("namespace", "update", "staging", "--annotation", "a=b", *at).code == 0
    assert holdfast("namespace", "delete", "staging", *at).code == 0
    assert sent(gateway) == [
        ("POST", "/system/namespace/", {"name": "staging", "labels": {"team": "pay"}, "annotations": {}}),
        ("PUT", "/system/namespace/staging", {"name": "staging", "labels": {}, "annotations": {"a": "b"}}),
        ("DELETE", "/system/namespace/staging", {"name": "staging"}),
    ]
    assert holdfast("namespaces", *at).lines == ["openfaas-fn", "staging"]
    assert json.loads(holdfast("namespace", "list", "-o", "json", *at).out) == ["openfaas-fn", "staging"]
    assert holdfast("namespace", "get", "staging", *at).lines == ["Name:   staging", "Labels: team: pay"]


def test_ready_waits_as_often_as_it_is_told(gateway: FakeGateway, holdfast: Holdfast) -> None:
    answers = iter([Scripted(503), Scripted(200)])
    gateway.answering = lambda _: next(answers)
    ended = holdfast("ready", "--interval", "10ms", "-g", gateway.url)
    assert (ended.code, ended.err.count("not ready")) == (0, 1)
    gateway.answering = lambda _: as_json({**FIGLET, "availableReplicas": 0})
    ended = holdfast("ready", "figlet", "--attempts", "3", "--interval", "10ms", "-g", gateway.url)
    assert (ended.code, ended.err.count("no replica is ready")) == (9, 3)
    ended = holdfast("ready", "--attempts", "2", "--interval", "10ms", "-g", "http://127.0.0.1:9")
    assert (ended.code, ended.err.count("cannot reach")) == (9, 2)


def test_a_gateway_of_images_is_told_from_one_that_takes_bundles(gateway: FakeGateway, holdfast: Holdfast) -> None:
    assert holdfast("new", "hello", "--lang", "python3-http").code == 0
    ended = holdfast("up", "-g", gateway.url)
    assert ended.code == 6
    assert "takes no bundles" in ended.err
    assert "skip_build: true" in ended.err


def test_a_bundle_is_uploaded_once_with_its_length_and_type(gateway: FakeGateway, holdfast: Holdfast) -> None:
    there: list[dict[str, str]] = []
    steps = [
        {"status": "unpacking", "text": "unpacking"},
        {"status": "installing", "text": "Collecting pyfiglet"},
        {"status": "ready", "image": "whatever"},
    ]

    def taking(request: Request) -> Scripted:
        if request.method == "GET":
            return as_json(there)
        return Scripted(200, {}, iter([json.dumps(step).encode() + b"\n" for step in steps]))

    gateway.answering = taking
    holdfast("new", "hello", "--lang", "python3-http")
    image = holdfast("build").out.decode().strip()
    first = holdfast("push", "-g", gateway.url)
    assert (first.code, first.out.decode().strip()) == (0, image), first.err
    assert "Collecting pyfiglet" in first.err
    assert gateway.request().method == "GET"
    request = gateway.request()
    assert (request.method, request.target) == ("POST", "/system/bundles?name=hello")
    assert request.all("Content-Type") == ["application/gzip"]
    assert request.body == (holdfast.home / "build" / "hello.tar.gz").read_bytes()
    there.append({"image": image})
    second = holdfast("push", "-g", gateway.url)
    assert "there already" in second.err
    assert [gateway.request().method, gateway.received.empty()] == ["GET", True]


def test_a_bundle_that_fails_or_whose_answer_breaks_off_is_exit_code_1(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    holdfast("new", "hello", "--lang", "python3-http")
    failed = json.dumps({"status": "failed", "error": "hello: its requirements cannot be installed:\nERROR: none"})
    for body, said in ((failed.encode(), "ERROR: none"), (b'{"status": "unpacking"}\n', "broke off")):
        gateway.answering = lambda request, body=body: (  # type: ignore[misc]
            as_json([]) if request.method == "GET" else Scripted(200, {}, body)
        )
        ended = holdfast("up", "-g", gateway.url)
        assert (ended.code, ended.out) == (1, b"")
        assert said in ended.err


def test_what_is_not_built_yet_says_how_to_build_it(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: as_json([])
    for language in ("python3-http", "dockerfile"):
        holdfast("new", language[:6], "--lang", language, *(("-a", "stack.yml") if language == "dockerfile" else ()))
    for command in ("push", "deploy"):
        ended = holdfast(command, "-g", gateway.url)
        assert (ended.code, ended.out) == (1, b"")
        assert ended.err.count("is not built yet: `holdfast up` builds, uploads and deploys it") == 2
    assert sent(gateway) == []


def test_a_gateway_of_images_is_sent_the_image_of_the_stack_file(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = accepting
    holdfast("new", "figlet", "--lang", "python3-http", "--prefix", "example")
    holdfast("build")  # for another gateway
    assert holdfast("deploy", "--no-wait", "-g", gateway.url).code == 0
    assert [document["image"] for _, _, document in sent(gateway)] == ["example/figlet:latest"]  # type: ignore[index]
    path = holdfast.home / "stack.yml"
    path.write_text(path.read_text().replace("    image: example/figlet:latest\n", ""))
    ended = holdfast("deploy", "--no-wait", "-g", gateway.url)
    assert ended.code == 6
    assert "takes no bundles" in ended.err


def test_what_lies_beside_a_function_without_a_folder_is_said_not_to_be_sent(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    gateway.answering = accepting
    (holdfast.home / "thumb.sh").touch()
    write_stack(holdfast, "functions:\n  thumb:\n    fprocess: ./thumb.sh\n")
    for command in ("up", "deploy"):
        ended = holdfast(command, "--no-wait", "-g", gateway.url)
        assert ended.code == 0
        assert "thumb: ./thumb.sh lies here and is not sent" in ended.err


def test_new_begins_a_function_and_writes_over_nothing(holdfast: Holdfast) -> None:
    assert holdfast("new", "hello", "--lang", "python3-http", "--prefix", "example").code == 0
    assert holdfast("new", "count", "--lang", "dockerfile", "--append", "stack.yml").code == 0
    text = (holdfast.home / "stack.yml").read_text()
    assert "image: example/hello:latest" in text
    assert "fprocess: sh handler.sh" in text
    assert (holdfast.home / "hello" / "requirements.txt").exists()
    for arguments, said in (
        (["hello", "--lang", "python3"], "--append stack.yml adds"),
        (["hello", "--lang", "python3", "-a", "stack.yml"], "a function of that name already"),
        (["other", "--lang", "python3", "-a", "stack.yml", "--handler", "hello"], "hello is there already"),
    ):
        ended = holdfast("new", *arguments)
        assert ended.code == 1
        assert said in ended.err
    assert (holdfast.home / "stack.yml").read_text() == text
    assert [line.split()[0] for line in holdfast("new", "--list").lines] == ["python3-http", "python3", "dockerfile"]


def test_the_store_lists_and_inspects_without_a_gateway(holdfast: Holdfast) -> None:
    assert "figlet" in holdfast("store", "list").out.decode()
    assert json.loads(holdfast("store", "inspect", "figlet", "-o", "json").out)["image"] == "holdfast/figlet:latest"
    assert holdfast("store", "inspect", "nothing").code == 2
