from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.cli.plan import Overrides, Way, document, find_stack, left_behind, read_selected, way
from holdfast.errors import DeploymentError
from holdfast.function import FunctionRef
from holdfast.stack import Deployment, Resources

STACK = """
provider: {name: openfaas}
functions:
  order-new: {fprocess: cat}
  order-old: {fprocess: cat}
  figlet: {fprocess: cat}
"""


@pytest.fixture(name="stack")
def _stack(tmp_path: Path) -> Path:
    (tmp_path / "stack.yml").write_text(STACK)
    return tmp_path / "stack.yml"


def names(path: Path, name: str = "", pattern: str = "", regex: str = "") -> list[str]:
    selected = read_selected(path, name=name, pattern=pattern, regex=regex)
    return [deployment.ref.name for deployment in selected.deployments]


def test_functions_are_selected_by_name_pattern_or_expression(stack: Path) -> None:
    assert names(stack) == ["order-new", "order-old", "figlet"]
    assert names(stack, name="figlet") == ["figlet"]
    assert names(stack, pattern="order-*") == ["order-new", "order-old"]
    assert names(stack, regex="new|fig") == ["order-new", "figlet"]


@pytest.mark.parametrize("selection", [{"name": "fig"}, {"pattern": "order"}, {"regex": "^x"}])
def test_a_selection_of_nothing_says_what_there_is(stack: Path, selection: dict[str, str]) -> None:
    with pytest.raises(DeploymentError, match="it has order-new, order-old, figlet"):
        names(stack, **selection)


def test_the_stack_file_is_the_one_named_or_the_usual_one_of_the_folder(tmp_path: Path) -> None:
    assert find_stack(None, tmp_path) is None
    assert find_stack("other.yml", tmp_path) == Path("other.yml")
    (tmp_path / "stack.yml").touch()
    assert find_stack(None, tmp_path) == tmp_path / "stack.yml"
    (tmp_path / "stack.yaml").touch()
    assert find_stack(None, tmp_path) == tmp_path / "stack.yaml"


def function(folder: Path, **fields: object) -> Deployment:
    return replace(Deployment(FunctionRef("f"), folder), **fields)  # type: ignore[arg-type]


def test_what_has_a_folder_goes_as_a_bundle_and_what_has_none_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "handler.py").touch()
    assert way(function(tmp_path, language="python3-http", handler=tmp_path)) is Way.BUNDLE
    assert way(function(tmp_path, language="dockerfile", handler=tmp_path, process="sh x.sh")) is Way.BUNDLE
    assert way(function(tmp_path, handler=tmp_path, environment={"mode": "static"})) is Way.BUNDLE
    assert way(function(tmp_path, process="cat")) is Way.AS_IT_IS
    assert way(function(tmp_path, image="x:1")) is Way.AS_IT_IS
    assert way(function(tmp_path, language="go", handler=tmp_path / "no", skip_build=True)) is Way.AS_IT_IS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"language": "python3"}, "needs handler"),
        ({"language": "python3", "handler": "none"}, "is no folder"),
        ({"language": "python3", "handler": "."}, r"has no handler\.py"),
        ({"language": "golang-middleware", "handler": "."}, "is not built here: give fprocess"),
    ],
)
def test_what_would_run_nowhere_is_refused_before_anything_is_sent(
    tmp_path: Path, fields: dict[str, str], message: str
) -> None:
    given: dict[str, object] = dict(fields)
    if "handler" in fields:
        given["handler"] = tmp_path / fields["handler"]
    with pytest.raises(DeploymentError, match=message):
        way(function(tmp_path, **given))


def test_a_description_leaves_out_what_is_empty(tmp_path: Path) -> None:
    assert document(function(tmp_path, process="cat"), "") == {"service": "f", "image": "f:latest", "envProcess": "cat"}


def test_the_command_line_wins_over_the_stack_file_and_all_of_it_is_sent(tmp_path: Path) -> None:
    described = function(
        tmp_path,
        image="a:1",
        process="cat",
        environment={"A": "1", "B": "1"},
        labels={"x": "1"},
        secrets=("one",),
        limits=Resources("1Mi", "1m"),
    )
    overrides = Overrides(
        namespace="staging",
        process="wc -c",
        environment={"B": "2"},
        labels={"y": "2"},
        annotations={"z": "3"},
        secrets=("one", "two"),
        constraints=("c",),
        limits=Resources(memory="2Mi"),
        requests=Resources(cpu="5m"),
        read_only=True,
    )
    assert document(overrides.over(described), "bundle") == {
        "service": "f",
        "image": "bundle",
        "namespace": "staging",
        "envProcess": "wc -c",
        "envVars": {"A": "1", "B": "2"},
        "labels": {"x": "1", "y": "2"},
        "annotations": {"z": "3"},
        "secrets": ["one", "two"],
        "constraints": ["c"],
        "limits": {"memory": "2Mi", "cpu": "1m"},
        "requests": {"cpu": "5m"},
        "readOnlyRootFilesystem": True,
    }
    assert document(Overrides().over(described), "")["limits"] == {"memory": "1Mi", "cpu": "1m"}


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("fprocess: ./thumb.sh -x", "./thumb.sh"),
        ("fprocess: bin/thumb", "bin/thumb"),
        ("environment: {mode: static, static_path: ./public}", "./public"),
        ("fprocess: ./elsewhere.sh", None),
        ("fprocess: wc -c", None),
        ("fprocess: /bin/cat", None),
        ("fprocess: './thumb.sh'\n    handler: .", None),
        ("fprocess: ./thumb.sh\n    skip_build: true", None),
        ("fprocess: 'thumb \"'", None),
    ],
)
def test_a_file_that_is_not_sent_though_the_function_names_it_is_found(
    tmp_path: Path, lines: str, name: str | None
) -> None:
    (tmp_path / "thumb.sh").touch()
    (tmp_path / "public").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "thumb").touch()
    path = tmp_path / "stack.yml"
    path.write_text(f"functions:\n  f:\n    {lines}\n")
    [deployment] = read_selected(path).deployments
    assert left_behind(deployment) == name
