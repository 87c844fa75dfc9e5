"""Gateway and worker with a provider that is not ours, as with faas-netes or faasd."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio

from holdfast.basic_auth import PASSWORD_FILE, USER_FILE
from tests.support import raw_http
from tests.support.foreign_provider import PASSWORD, USER, ForeignProvider, foreign_provider
from tests.support.nats import nats_server
from tests.support.parts import part
from tests.support.receiver import receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMIN = ("admin", "of-the-gateway")


class Parts(NamedTuple):
    client: httpx.AsyncClient
    """Of the gateway."""
    metrics: str
    provider: ForeignProvider

    async def system(self, method: str, path: str, document: Any = None) -> httpx.Response:
        return await self.client.request(method, f"/system/{path}", json=document, auth=ADMIN)


def credentials(folder: Path, user: str, password: str) -> str:
    """The two files; gives the folder."""
    folder.mkdir()
    (folder / USER_FILE).write_text(user)
    (folder / PASSWORD_FILE).write_text(password + "\n")
    return str(folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="parts")
async def _parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parts]:
    folder: Path = tmp_path_factory.mktemp("secrets")
    with foreign_provider() as provider:
        async with nats_server() as nats:
            environ = {
                "nats_url": nats.url,
                "functions_provider_url": provider.url,
                "provider_secret_mount_path": credentials(folder / "provider", USER, PASSWORD),
                "basic_auth": "true",
                "secret_mount_path": credentials(folder / "gateway", *ADMIN),
                "gateway_port": "0",
                "gateway_metrics_port": "0",
                "worker_metrics_port": "0",
                "callback_allow": "127.0.0.1",
            }
            async with (
                part("gateway", environ) as gateway,
                part("worker", environ | {"gateway_url": gateway.url}),
                httpx.AsyncClient(base_url=gateway.url, timeout=30, trust_env=False) as client,
            ):
                metrics = re.search(r"metrics=(\S+)", gateway.log)
                assert metrics is not None
                yield Parts(client, metrics[1], provider)


async def test_a_call_goes_through_the_providers_own_route(parts: Parts) -> None:
    parts.provider.deploy("echo")
    answer = await parts.client.put("/function/echo/a%2Fb/c?d=e&f", content=b"body", headers={"X-Own": "1"})
    seen = answer.json()
    assert seen["function"] == "echo.openfaas-fn"
    assert seen["method"] == "PUT"
    assert (seen["path"], seen["query"], seen["body"]) == ("/a%2Fb/c", "d=e&f", "body")
    assert seen["headers"]["x-own"] == "1"
    assert seen["headers"]["x-call-id"] == answer.headers["X-Call-Id"]


async def test_no_function_is_shown_a_password_but_the_callers_own(parts: Parts) -> None:
    parts.provider.deploy("shown")
    seen = (await parts.client.post("/function/shown")).json()
    assert "authorization" not in seen["headers"]
    own = (await parts.client.post("/function/shown", auth=("some", "body"))).json()
    assert own["headers"]["authorization"].startswith("Basic ")
    assert own["headers"]["authorization"] != parts.provider.authorization


async def test_an_asynchronous_call_is_run_through_the_providers_own_route(parts: Parts) -> None:
    parts.provider.deploy("later")
    async with receiver() as called_back:
        headers = {"X-Callback-Url": called_back.url}
        answer = await parts.client.post("/async-function/later/path?q=1", content=b"stored", headers=headers)
        assert answer.status_code == 202
        (callback,) = await called_back.wait_for(1)
    seen = json.loads(callback.body)
    assert callback["X-Function-Status"] == "200"
    assert callback["X-Call-Id"] == answer.headers["X-Call-Id"]
    assert (seen["function"], seen["path"], seen["query"]) == ("later.openfaas-fn", "/path", "q=1")
    assert seen["body"] == "stored"
    assert "authorization" not in seen["headers"]


async def test_waiting_calls_of_a_function_at_zero_start_it_once(parts: Parts) -> None:
    parts.provider.deploy("asleep", replicas=0)
    async with receiver() as called_back:
        accepted = await parts.client.post("/async-function/asleep", headers={"X-Callback-Url": called_back.url})
        assert accepted.status_code == 202
        answers = await asyncio.gather(*(parts.client.post("/function/asleep") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        (callback,) = await called_back.wait_for(1)
    assert callback["X-Function-Status"] == "200"
    asked = [line for line in parts.provider.asked if line.startswith("POST /system/scale-function/asleep")]
    assert 1 <= len(asked) <= 2, "once by the gateway, and once by the worker if it came first"


async def test_a_function_that_the_provider_does_not_know_is_not_accepted(parts: Parts) -> None:
    for route in ("function", "async-function"):
        assert (await parts.client.post(f"/{route}/nobody")).status_code == 404


@pytest.mark.parametrize("name", ["holdfast", "a.b", "_INBOX", "x" * 65])
async def test_a_queue_that_cannot_be_one_is_refused_when_a_call_comes(parts: Parts, name: str) -> None:
    parts.provider.deploy("odd" + str(len(name)), annotations={"com.openfaas.queue": name})
    answer = await parts.client.post("/async-function/odd" + str(len(name)))
    assert (answer.status_code, "X-Call-Id" in answer.headers) == (500, False)
    assert "com.openfaas.queue" in answer.text
    assert name[:64] in answer.text
    # A synchronous call needs no queue.
    assert (await parts.client.post("/function/odd" + str(len(name)))).status_code == 200


async def test_functions_are_deployed_updated_scaled_and_deleted_with_the_providers_credentials(parts: Parts) -> None:
    deployment = {"service": "new", "image": "example.com/new:1", "labels": {"a": "b"}}
    assert (await parts.system("PUT", "functions", deployment)).status_code == 404
    assert (await parts.system("POST", "functions", deployment)).status_code == 202
    assert (await parts.system("POST", "scale-function/new", {"serviceName": "new", "replicas": 3})).status_code == 202
    described = (await parts.system("GET", "function/new?namespace=openfaas-fn")).json()
    assert (described["replicas"], described["labels"]) == (3, {"a": "b"})
    assert (await parts.client.post("/function/new")).status_code == 200
    assert (await parts.system("PUT", "functions", deployment | {"image": "example.com/new:2"})).status_code == 202
    assert parts.provider.functions["new"]["image"] == "example.com/new:2"
    assert (await parts.system("DELETE", "functions", {"functionName": "new"})).status_code == 202
    assert "new" not in parts.provider.functions
    assert (await parts.system("GET", "function/new")).status_code == 404


async def test_secrets_and_namespaces_are_the_providers(parts: Parts) -> None:
    assert (await parts.system("POST", "secrets", {"name": "key", "value": "one"})).status_code == 201
    assert (await parts.system("GET", "secrets")).json() == [{"name": "key", "namespace": "openfaas-fn"}]
    await parts.system("PUT", "secrets", {"name": "key", "value": "two"})
    assert parts.provider.secrets == {"key": "two"}
    assert (await parts.system("DELETE", "secrets", {"name": "key"})).status_code == 202
    assert (await parts.system("GET", "namespaces")).json() == ["openfaas-fn"]


async def test_logs_are_passed_on_as_they_are_written(parts: Parts) -> None:
    target = "/system/logs?name=echo&follow=true&tail=-1"
    async with parts.client.stream("GET", target, auth=ADMIN) as answer:
        lines = answer.aiter_lines()
        assert json.loads(await anext(lines))["text"] == "hello"
        parts.provider.follow_until.set()
        assert json.loads(await anext(lines))["text"] == "bye"


async def test_calls_are_counted_in_list_and_description(parts: Parts) -> None:
    parts.provider.deploy("popular", invocationCount=99)
    for _ in range(3):
        await parts.client.post("/function/popular")
    await parts.client.post("/async-function/popular")
    assert (await parts.system("GET", "function/popular")).json()["invocationCount"] == 4
    listed = {one["name"]: one for one in (await parts.system("GET", "functions")).json()}
    assert listed["popular"]["invocationCount"] == 4


async def test_information_names_the_provider_and_the_gateway(parts: Parts) -> None:
    document = (await parts.system("GET", "info")).json()
    assert document["provider"]["provider"] == "elsewhere"
    assert document["provider"]["version"]["release"] == "0.1.2"
    assert document["version"]["release"]
    assert document["arch"]


async def test_without_the_gateways_password_the_provider_is_not_asked(parts: Parts) -> None:
    for auth in (None, (USER, PASSWORD)):
        answer = await parts.client.get("/system/function/not-asked", auth=auth)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert not [line for line in parts.provider.asked if "not-asked" in line]


async def test_the_callers_path_cannot_borrow_the_providers_credentials(parts: Parts) -> None:
    parts.provider.deploy("steps")
    target = "/function/steps/../../system/secrets"
    port = parts.client.base_url.port
    assert port is not None
    seen = json.loads((await raw_http.request(port, target, method="GET")).body)
    assert (seen["function"], seen["path"]) == ("steps.openfaas-fn", "/../../system/secrets")
    assert "authorization" not in seen["headers"]


async def test_an_alert_that_fires_adds_replicas_until_it_is_resolved(parts: Parts) -> None:
    parts.provider.deploy("loaded", labels={"com.openfaas.scale.max": "10", "com.openfaas.scale.factor": "30"})
    alert = {"labels": {"alertname": "APIHighInvocationRate", "function_name": "loaded.openfaas-fn"}}
    notification = {"status": "firing", "alerts": [alert | {"status": "firing"}]}
    for expected in (4, 7, 10):
        answer = await parts.system("POST", "alert", notification)
        assert answer.status_code == 200
        assert answer.json() == {"scaled": [{"function": "loaded.openfaas-fn", "replicas": expected}]}
        assert parts.provider.functions["loaded"]["replicas"] == expected
    assert (await parts.system("POST", "alert", notification)).json() == {"scaled": []}
    await parts.system("POST", "alert", {"alerts": [alert | {"status": "resolved"}]})
    assert parts.provider.functions["loaded"]["replicas"] == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"alerts": 1}', b'{"alerts": [1]}'])
async def test_what_is_no_notification_is_refused(parts: Parts, *, body: bytes) -> None:
    answer = await parts.client.post("/system/alert", content=body, auth=ADMIN)
    assert answer.status_code == 400


async def test_an_alert_of_a_function_that_is_gone_is_passed_over(parts: Parts) -> None:
    notification = {"status": "firing", "alerts": [{"labels": {"function_name": "gone"}}, {"labels": {}}, {}]}
    assert (await parts.system("POST", "alert", notification)).json() == {"scaled": []}


async def test_metrics_show_the_replicas_that_the_provider_has_now(parts: Parts) -> None:
    parts.provider.deploy("shown", replicas=3, labels={"com.openfaas.scale.min": "2"})
    text = (await parts.client.get(parts.metrics + "/metrics")).text
    for line in (
        'gateway_service_count{function_name="shown.openfaas-fn"} 3.0',
        'gateway_service_ready_count{function_name="shown.openfaas-fn"} 3.0',
        'gateway_service_min{function_name="shown.openfaas-fn"} 2.0',
        'gateway_service_target{function_name="shown.openfaas-fn"} 50.0',
    ):
        assert line in text.splitlines()
    del parts.provider.functions["shown"]
    text = (await parts.client.get(parts.metrics + "/metrics")).text
    assert 'gateway_service_count{function_name="shown.openfaas-fn"}' not in text
