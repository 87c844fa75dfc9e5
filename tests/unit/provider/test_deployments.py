import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.errors import DeploymentError
from holdfast.function import FunctionRef
from holdfast.provider.deployments import Endpoint, Identity, Launch, launch, passed_on, status
from holdfast.stack import Deployment, Resources


def deployment(tmp_path: Path, **fields: object) -> Deployment:
    return Deployment(ref=FunctionRef("f", "ns"), folder=tmp_path, **fields)  # type: ignore[arg-type]


def launched(found: Deployment, environ: dict[str, str] | None = None) -> Launch:
    return launch(found, "f-1", environ or {}, grace_period_s=2.5)


def test_a_command_runs_in_the_handler_folder_when_there_is_one_else_beside_the_stack(tmp_path: Path) -> None:
    found = launched(deployment(tmp_path, process="cat -n", language="dockerfile"))
    assert found.cwd == tmp_path
    assert found.environ["fprocess"] == "cat -n"
    assert found.environ["grace_period"] == "2.5s"
    assert "handler" not in found.environ
    (tmp_path / "code").mkdir()
    assert launched(deployment(tmp_path, process="cat", handler=tmp_path / "code")).cwd == tmp_path / "code"
    assert launched(deployment(tmp_path, process="cat", handler=tmp_path / "no")).cwd == tmp_path


@pytest.mark.parametrize(("language", "style"), [("python3-http", "http"), ("python3", "classic")])
def test_a_python_function_is_its_handler_folder(tmp_path: Path, language: str, style: str) -> None:
    (tmp_path / "handler.py").write_text("")
    found = launched(deployment(tmp_path, language=language, handler=tmp_path))
    assert found.environ["handler"] == str(tmp_path)
    assert found.environ["handler_style"] == style
    assert "fprocess" not in found.environ


def test_a_function_sees_its_own_environment_and_little_of_ours(tmp_path: Path) -> None:
    ours = {
        "nats_url": "nats://user:password@host",
        "exec_timeout": "1s",
        "HOME": "/home/me",
        "LC_ALL": "C",
        "PATH": "/x",
    }
    found = launched(deployment(tmp_path, process="cat", environment={"GREETING": "hi", "HOME": "/own"}), ours).environ
    assert "nats_url" not in found
    assert "exec_timeout" not in found
    assert found["HOME"] == "/own"
    assert found["GREETING"] == "hi"
    assert found["LC_ALL"] == "C"
    assert (found["OPENFAAS_NAME"], found["OPENFAAS_NAMESPACE"], found["HOSTNAME"]) == ("f", "ns", "f-1")


def test_the_interpreter_that_runs_holdfast_comes_first_in_path() -> None:
    assert passed_on({"PATH": "/usr/bin"})["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}/usr/bin"
    assert passed_on({})["PATH"].startswith(str(Path(sys.executable).parent) + os.pathsep)


def test_fprocess_may_stand_in_the_environment(tmp_path: Path) -> None:
    assert launched(deployment(tmp_path, environment={"fprocess": "wc"})).environ["fprocess"] == "wc"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "f: lang none cannot be run here without fprocess"),
        ({"language": "golang-middleware"}, "f: lang golang-middleware cannot be run here without fprocess"),
        ({"language": "python3-http"}, "f: lang python3-http needs handler"),
        ({"language": "python3", "handler": Path("/nowhere")}, "f: handler /nowhere has no handler.py"),
        ({"language": "python3", "process": "cat"}, "leave one of them out"),
        ({"process": "cat", "environment": {"exec_timeout": "6O"}}, "f: environment: exec_timeout='6O' cannot be used"),
        ({"process": "cat", "environment": {"mode": "afterburn"}}, "f: environment: mode='afterburn' cannot be used"),
        ({"process": "cat", "environment": {"log_encoding": "xml"}}, "f: environment: log_encoding='xml'"),
    ],
)
def test_what_cannot_run_here_is_an_error_that_names_the_function(
    tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(DeploymentError, match=message) as caught:
        launched(deployment(tmp_path, **fields))
    assert caught.value.function == "f"


def test_what_was_deployed_reads_back_the_same(tmp_path: Path) -> None:
    found = deployment(
        tmp_path,
        image="x/y:1",
        process="cat",
        environment={"A": "1"},
        labels={"b": "2"},
        annotations={"c": "3"},
        secrets=("s",),
        constraints=("k",),
        limits=Resources(memory="40Mi"),
        requests=Resources(cpu="100m"),
        read_only_root_filesystem=True,
    )
    shown = status(
        found,
        identity=Identity("0a1b", "here"),
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        replicas=2,
        endpoints=[Endpoint("http://127.0.0.1:1", "unix:@a", "f.ns/f-1/aa")],
        updated=1,
        restarts=3,
    )
    assert shown == {
        "name": "f",
        "namespace": "ns",
        "image": "x/y:1",
        "envProcess": "cat",
        "envVars": {"A": "1"},
        "labels": {"b": "2"},
        "annotations": {"c": "3"},
        "secrets": ["s"],
        "constraints": ["k"],
        "limits": {"memory": "40Mi"},
        "requests": {"cpu": "100m"},
        "readOnlyRootFilesystem": True,
        "invocationCount": 0,
        "replicas": 2,
        "availableReplicas": 1,
        "createdAt": "2026-01-02T03:04:05Z",
        "endpoints": ["http://127.0.0.1:1"],
        "localEndpoints": ["unix:@a"],
        "instances": ["f.ns/f-1/aa"],
        "hostId": "here",
        "providerId": "0a1b",
        "updatedReplicas": 1,
        "restarts": 3,
    }
