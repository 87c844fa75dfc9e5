"""What is refused says what was seen and what would work, and has changed nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.providers import RunningProvider, provider

RUNS = {"service": "ok", "image": "i", "envProcess": "cat"}


DEPLOYMENTS: list[tuple[Any, str]] = [
    ({**RUNS, "service": "Upper"}, "service has to be a DNS label: 1 to 63 of a-z"),
    ({**RUNS, "service": "x" * 64}, "service has to be a DNS label"),
    ({**RUNS, "service": None}, "service has to be a DNS label"),
    ({**RUNS, "image": ""}, "image is missing"),
    ({**RUNS, "envProcess": ""}, "image 'i' comes without envProcess, and images are not run here"),
    ({**RUNS, "envProcess": 'cat "unclosed'}, "the command 'cat \"unclosed' cannot be read: No closing quotation"),
    ({**RUNS, "namespace": "No"}, "'No' is not a DNS label"),
    ({**RUNS, "namespace": "nowhere"}, "namespace nowhere does not exist: create it first"),
    ({**RUNS, "secrets": ["none", "nor-this"]}, "there is no secret 'none', 'nor-this' in openfaas-fn"),
    ({**RUNS, "secrets": "key"}, "secrets has to be a list of texts, not 'key'"),
    ({**RUNS, "limits": {"memory": "lots"}}, "limits.memory is 'lots': expected a quantity such as 128Mi"),
    ({**RUNS, "limits": {"memory": 128}}, 'limits.memory has to be a text such as "128Mi", not 128'),
    ({**RUNS, "requests": {"cpu": "-1"}}, "requests.cpu is '-1': expected a quantity"),
    ({**RUNS, "limits": "40Mi"}, "limits has to be an object with memory and cpu, not '40Mi'"),
    ({**RUNS, "envVars": {"A=B": "c"}}, "'A=B' cannot be the name of an environment variable"),
    ({**RUNS, "envVars": {"mode": "warp"}}, "mode='warp' cannot be used: expected serializing or streaming"),
    ({**RUNS, "envVars": {"A": "\x00"}}, "envVars has to be an object of texts"),
    ([], "the body has to be a JSON object, not list"),
]

REQUESTS = [
    ("POST", "/system/functions", "", 400, "the body is empty: expected a JSON object"),
    ("POST", "/system/functions", "{", 400, "the body is not JSON"),
    ("POST", "/system/scale-function/a", "{}", 400, "replicas is missing: a whole number from 0 to 100"),
    ("POST", "/system/scale-function/a", '{"replicas": "2"}', 400, "whole number from 0 to 100, not '2'"),
    ("POST", "/system/scale-function/a", '{"replicas": 101}', 400, "from 0 to 100, not 101"),
    ("POST", "/system/scale-function/none", '{"replicas": 1}', 404, "none: is not deployed in openfaas-fn"),
    ("DELETE", "/system/functions", "{}", 400, "functionName is missing"),
    ("DELETE", "/system/functions", '{"functionName": "none"}', 404, "none: is not deployed in openfaas-fn"),
    ("DELETE", "/system/namespace/openfaas-fn", "", 409, "namespace openfaas-fn is the default one and stays"),
    ("GET", "/system/function/none", "", 404, "there is no function 'none' in namespace 'openfaas-fn'"),
    ("GET", "/system/nothing", "", 404, "GET '/system/nothing' is not a route of this API"),
    ("PATCH", "/system/functions", "", 405, "PATCH '/system/functions' is not a route of this API"),
    ("GET", "/system/logs?name=a&since=1h", "", 400, "since: expected an RFC 3339 time, not '1h'"),
    ("GET", "/system/logs?name=a&tail=x", "", 400, "tail: expected a whole number, not 'x'"),
]


@pytest.fixture(name="running")
async def _running(tmp_path: Path) -> AsyncIterator[RunningProvider]:
    async with provider("functions: {z: {fprocess: cat}, a: {fprocess: cat}}", tmp_path) as started:
        yield started


async def test_a_deployment_that_cannot_be_is_refused_with_the_reason(running: RunningProvider) -> None:
    for document, message in DEPLOYMENTS:
        answer = await running.client.post("/system/functions", json=document)
        status = 404 if "does not exist" in message else 400
        assert (answer.status_code, message in answer.text) == (status, True), (document, answer.text)
    assert [one["name"] for one in (await running.get("/system/functions")).json()] == ["a", "z"]


async def test_a_request_that_cannot_be_carried_out_is_told_why(running: RunningProvider) -> None:
    for method, path, body, status, message in REQUESTS:
        answer = await running.client.request(method, path, content=body)
        assert (answer.status_code, message in answer.text) == (status, True), (path, body, answer.text)
        assert answer.text.endswith("\n")


async def test_what_cannot_be_kept_is_an_error_that_says_so_and_functions_run_on(running: RunningProvider) -> None:
    await running.ready("a")
    data = Path(running.data)
    # Where the state is written before it takes the place of the one before; as a full disk would, this refuses it.
    stands_in_the_way = data / f".state.json.{running.process.pid}"
    stands_in_the_way.mkdir()
    try:
        answer = await running.client.post("/system/namespace/extra", content=json.dumps({"name": "extra"}))
        assert (answer.status_code, answer.text) == (500, "the runtime's folder cannot be written: Is a directory\n")
        await running.logged("the runtime's folder cannot be written")
        assert (await running.ready("a"))["availableReplicas"] == 1
    finally:
        stands_in_the_way.rmdir()
    assert (await running.client.put("/system/namespace/extra", json={"name": "extra"})).status_code == 202
