"""A running server keeps to the OpenAPI document that it serves, whatever requests to /system it is sent."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from holdfast.gateway.openapi import document
from tests.support.serving import HOLDFAST

EXAMPLES = 10
# Of each operation, besides the edge cases that the document leads to.
STOP_TIMEOUT_S = 60

schemathesis.serializer.alias("application/gzip", "application/octet-stream")
schema = schemathesis.openapi.from_dict(json.loads(document()))
AnyCase: TypeAlias = schemathesis.Case[Any]
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    ignored_auth,
]


class Server(NamedTuple):
    url: str
    auth: tuple[str, str]


@pytest.fixture(scope="module", name="server")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Not `serving()`: these tests are synchronous, so nobody would read the server's log from a pipe."""
    folder = tmp_path_factory.mktemp("serve")
    command = [str(HOLDFAST), "serve", "--port", "0", "--metrics-port", "0", "--data", str(folder / "data")]
    with (folder / "log").open("w") as log, contextlib.ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                [*command, "--ready-file", str(folder / "ready.json"), "--durability", "os"],
                env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        )
        stack.callback(process.wait, STOP_TIMEOUT_S)
        stack.callback(process.terminate)
        assert process.stdout is not None
        assert b"is ready" in process.stdout.readline(), (folder / "log").read_text()
        password = (folder / "data" / "secrets" / "basic-auth-password").read_text().strip()
        yield Server(json.loads((folder / "ready.json").read_text())["gateway"], ("admin", password))


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_answers_as_the_document_says(case: AnyCase, server: Server) -> None:
    harmless(case)
    case.call_and_validate(base_url=server.url, auth=server.auth, checks=CHECKS, timeout=30)


def harmless(case: AnyCase) -> None:
    """What a request may start on this machine: one function of one replica, no command but cat, calls to no host."""
    headers: Any = case.headers
    query: Any = case.query
    body: Any = case.body
    for name in ("X-Callback-Url", "X-Failure-Callback-Url"):
        if headers and "://" in str(headers.get(name)):
            del headers[name]
    if isinstance(query, dict):
        query.pop("follow", None)
        if "wait" in query:
            query["wait"] = "10ms"
    if isinstance(body, dict):
        if body.get("envProcess"):
            body["envProcess"] = "cat"
        for name in ("service", "functionName"):
            if body.get(name):
                body[name] = "under-test"
        if isinstance(body.get("replicas"), int | float):
            body["replicas"] = min(body["replicas"], 1)


def test_the_document_is_served_as_it_is(server: Server) -> None:
    assert httpx.get(f"{server.url}/openapi.json", trust_env=False).content == document()
