from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import DeploymentError
from holdfast.function import FunctionRef
from holdfast.stack import Deployment, Resources, Stack, parse_stack, read_stack, substitute

FOLDER = Path("/stacks")


def parse(text: str, environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> Stack:
    def read_file(path: Path, function: str) -> str:
        return (files or {})[str(path)]

    return parse_stack(text, source="stack.yml", folder=FOLDER, environ=environ or {}, read_file=read_file)


def one(text: str, **more: Mapping[str, str]) -> Deployment:
    (deployment,) = parse("functions:\n  f:\n" + text, **more).deployments
    return deployment


def test_every_field_of_a_function_is_read() -> None:
    stack = parse(
        """
version: 1.0
provider:
  name: openfaas
  gateway: http://127.0.0.1:8080
  network: "func_functions"
functions:
  url-ping:
    lang: python3-http
    handler: ./url-ping
    image: example/url-ping:0.2
    fprocess: python3 index.py
    namespace: staging
    skip_build: true
    environment:
      write_debug: true
    labels:
      com.openfaas.scale.min: 2
    annotations:
      topic: "a.b"
    secrets: [one, two]
    constraints:
      - "node.platform.os == linux"
    limits:
      memory: 40Mi
    requests: {memory: 20Mi, cpu: 100m}
    readonly_root_filesystem: yes
"""
    )
    assert stack.warnings == ()
    assert stack.gateway == "http://127.0.0.1:8080"
    assert stack.deployments == (
        Deployment(
            ref=FunctionRef("url-ping", "staging"),
            folder=FOLDER,
            language="python3-http",
            handler=FOLDER / "url-ping",
            image="example/url-ping:0.2",
            process="python3 index.py",
            environment={"write_debug": "true"},
            labels={"com.openfaas.scale.min": "2"},
            annotations={"topic": "a.b"},
            secrets=("one", "two"),
            constraints=("node.platform.os == linux",),
            limits=Resources(memory="40Mi"),
            requests=Resources(memory="20Mi", cpu="100m"),
            read_only_root_filesystem=True,
            skip_build=True,
        ),
    )


def test_the_least_function_has_the_defaults() -> None:
    assert one("    fprocess: cat") == Deployment(
        ref=FunctionRef("f", "openfaas-fn"), folder=FOLDER, process="cat", limits=None
    )


@pytest.mark.parametrize("text", ["", "functions:", "version: 1.0\nfunctions: {}", "# nothing"])
def test_a_stack_without_functions_deploys_nothing(text: str) -> None:
    assert parse(text).deployments == ()


@pytest.mark.parametrize(
    "written",
    ["on", "no", "0644", "1.10", "1_000", "0x1F", "12e3", ".inf", "2024-01-31", "60:30", "TRUE", "=", "60"],
)
def test_a_scalar_reaches_the_function_as_written(written: str) -> None:
    assert one(f"    environment:\n      value: {written}").environment == {"value": written}


@pytest.mark.parametrize("written", ["", "~", "null", '""'])
def test_an_empty_value_is_an_empty_text(written: str) -> None:
    assert one(f"    environment:\n      value: {written}").environment == {"value": ""}


def test_anchors_and_merges_work_and_the_own_value_wins() -> None:
    deployment = one(
        "    labels: &common {a: 1, b: 2}\n    annotations:\n      <<: *common\n      b: 3\n",
    )
    assert deployment.annotations == {"a": "1", "b": "3"}


def test_environment_files_override_the_inline_environment_and_the_last_wins() -> None:
    deployment = one(
        "    environment: {a: inline, b: inline, c: inline}\n    environment_file: [one.yml, more/two.yml]",
        files={
            "/stacks/one.yml": "environment: {b: one, c: one}",
            "/stacks/more/two.yml": "environment:\n  c: two\n  d: on",
        },
    )
    assert deployment.environment == {"a": "inline", "b": "one", "c": "two", "d": "on"}


def test_unknown_fields_are_warnings_that_name_their_place() -> None:
    stack = parse("extra: 1\nprovider: {nme: x}\nfunctions:\n  f:\n    fproces: cat\n    limits: {disk: 1}")
    assert stack.warnings == (
        "stack.yml: extra is not known and left out",
        "stack.yml: provider.nme is not known and left out",
        "stack.yml: functions.f.fproces is not known and left out",
        "stack.yml: functions.f.limits.disk is not known and left out",
    )


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        ("functions: [a]", "", r"stack.yml: functions: expected a mapping of names to values, not \['a'\]"),
        ("just text", "", "stack.yml: the file: expected a mapping"),
        ("version: 2.0", "", "version: expected 1.0, not '2.0'"),
        ("provider: {name: lambda}", "", "provider.name: expected openfaas, not 'lambda'"),
        ("functions: {Bad_Name: {}}", "Bad_Name", "a function's name is 1 to 63 characters"),
        ("functions: {f: {namespace: 'a b'}}", "f", "functions.f.namespace: expected 1 to 63"),
        ("functions: {f: {image: [x]}}", "f", r"functions.f.image: expected text, not \['x'\]"),
        ("functions: {f: {skip_build: maybe}}", "f", "functions.f.skip_build: expected true or false, not 'maybe'"),
        ("functions: {f: {secrets: one}}", "f", "functions.f.secrets: expected a list of texts"),
        ("functions: {f: {environment: {a: [1]}}}", "f", "functions.f.environment.a: expected text"),
        ("functions: {f: {environment: {'a=b': 1}}}", "f", "functions.f.environment: expected names without '='"),
        ('functions: {f: {environment: {a: "\\0"}}}', "f", "functions.f.environment.a: expected text without NUL"),
        ("functions:\n  f: {}\n  f: {}", "", "stack.yml, line 3, column 3: the key 'f' stands here twice"),
        ("functions:\n  f: {\n", "", "stack.yml, line 3"),
        ("functions: !python/object:os.system {}", "", "stack.yml, line 1"),
        ("image: ${", "", r"stack.yml, line 1: \$\{ is not"),
        ("a: 1\nb: ${X:?needed}", "", r"stack.yml, line 2: \$\{X:\?needed\} is not \$\{NAME\} or"),
    ],
)
def test_an_unusable_stack_is_an_error_that_says_where_and_what_would_work(
    text: str, function: str, message: str
) -> None:
    with pytest.raises(DeploymentError, match=message) as caught:
        parse(text)
    assert caught.value.function == function


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a ${SET} b", "a value b"),
        ("${UNSET}", ""),
        ("${UNSET:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY-default}", ""),
        ("${UNSET-default}", "default"),
        ("${UNSET:=default}", "default"),
        ("${UNSET=default}", "default"),
        ("${SET:-default}", "value"),
        ("${UNSET:-}", ""),
        ("${UNSET:-http://host:80/}", "http://host:80/"),
        ("${UNSET:-${SET}/x}", "value/x"),
        ("${SET}${SET}", "valuevalue"),
        ("$SET costs $5 }", "$SET costs $5 }"),
        ("$${SET}", "${SET}"),
        ("$$", "$$"),
    ],
)
def test_variables_are_replaced_as_faas_cli_does(text: str, expected: str) -> None:
    assert substitute(text, {"SET": "value", "EMPTY": ""}, "stack.yml") == expected


def test_a_variables_own_text_is_not_replaced_again() -> None:
    assert substitute("${A}", {"A": "${B}", "B": "x"}, "stack.yml") == "${B}"


def test_a_stack_is_read_from_a_file_with_paths_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "env.yml").write_text("environment:\n  who: ${NOT_REPLACED}")
    stack = tmp_path / "stack.yml"
    stack.write_text("functions: {f: {image: '${USER_NAME:-me}/f', handler: ../x/./f, environment_file: [env.yml]}}")
    (deployment,) = read_stack(stack, {"USER_NAME": "you"}, namespace="other").deployments
    assert deployment.ref == FunctionRef("f", "other")
    assert deployment.image == "you/f"
    assert deployment.handler == tmp_path.parent / "x" / "f"
    assert deployment.environment == {"who": "${NOT_REPLACED}"}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"missing\.yml cannot be read: No such file"):
        read_stack(tmp_path / "missing.yml")
    stack = tmp_path / "stack.yml"
    stack.write_text("functions: {f: {environment_file: [env.yml]}}")
    with pytest.raises(DeploymentError, match=r"f: environment_file .*env.yml of .*stack.yml cannot be read"):
        read_stack(stack)
    stack.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DeploymentError, match="not UTF-8"):
        read_stack(stack)


@given(st.text(alphabet="functions: {}[]&*!<>-\n ${}:'\"#%@,|?ab01~\t\0é", max_size=80))
def test_no_text_leads_to_anything_but_a_stack_or_a_deployment_error(text: str) -> None:
    with suppress(DeploymentError):
        parse(text)
