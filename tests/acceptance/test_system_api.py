"""What the gateway itself does on /system, on a real server: one for the whole file."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from holdfast import __version__
from tests.support.serving import Serving, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = 7


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="server")
async def _server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("serve"), "--gateways", "2") as started:
        yield started


async def ask(
    server: Serving,
    path: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    *,
    document: Any = None,
    login: bool = True,
) -> httpx.Response:
    password = (server.folder / "data" / "secrets" / "basic-auth-password").read_text().strip()
    auth = ("admin", password) if login else None
    return await server.client.request(method, server.url + path, headers=headers, json=document, auth=auth)


async def test_calls_through_any_gateway_are_counted_stored_ones_included(server: Serving) -> None:
    for _ in range(CALLS):
        # A client each, so a connection each: the kernel gives them to both gateways.
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            assert (await client.post(f"{server.url}/function/echo", content=b"x")).status_code == 200
            assert (await client.post(f"{server.url}/async-function/echo", content=b"x")).status_code == 202
    # A gateway writes what it has counted a moment later, where the others read it.
    async with asyncio.timeout(10):
        while (await ask(server, "/system/function/echo")).json()["invocationCount"] < 2 * CALLS:
            await asyncio.sleep(0.01)
    listed = {one["name"]: one for one in (await ask(server, "/system/functions")).json()}
    assert listed["echo"]["invocationCount"] == 2 * CALLS, "neither fewer nor more"
    assert listed["env"]["invocationCount"] == 0


async def test_the_count_goes_on_after_the_gateways_were_killed(server: Serving) -> None:
    assert (await server.call("/function/sleep?seconds=0")).status_code == 200
    before = (await ask(server, "/system/function/sleep")).json()["invocationCount"]
    server.kill("gateway")
    await server.logged("started again", times=2)
    assert (await server.call("/function/sleep?seconds=0")).status_code == 200
    assert (await ask(server, "/system/function/sleep")).json()["invocationCount"] == before + 1


async def test_information_shows_both_versions(server: Serving) -> None:
    document = (await ask(server, "/system/info")).json()
    assert document["version"]["release"] == __version__
    assert document["provider"]["provider"] == "holdfast"
    assert document["provider"]["version"]["release"] == __version__
    assert document["arch"]


async def test_what_the_provider_refuses_is_passed_on_as_it_is(server: Serving) -> None:
    answer = await ask(server, "/system/function/nobody")
    assert answer.status_code == 404
    assert "nobody" in answer.text
    assert answer.headers["X-Served-By"] == f"holdfast/{__version__}"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "/system/functions",
        "/system/function/echo",
        "/system/scale-function/echo",
        "/system/secrets",
        "/system/logs?name=echo",
        "/system/namespaces",
        "/system/namespace/",
        "/system/info",
        "/system/alert",
        "/system/bundles",
        "/system/",
        "/system/nothing",
    ],
)
async def test_without_the_password_every_route_is_challenged(server: Serving, *, method: str, path: str) -> None:
    answer = await ask(server, path, method, login=False)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://attacker.example"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
async def test_a_page_of_another_site_is_refused_even_with_the_password(
    server: Serving, *, method: str, headers: dict[str, str]
) -> None:
    answer = await ask(server, "/system/functions", method, headers)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_page_of_the_gateway_itself_may_ask(server: Serving) -> None:
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": server.url}):
        assert (await ask(server, "/system/functions", headers=headers)).status_code == 200


async def test_health_and_interface_are_open(server: Serving) -> None:
    assert (await ask(server, "/healthz", login=False)).text == "OK\n"
    document = (await ask(server, "/openapi.json", login=False)).json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == __version__


@pytest.mark.parametrize("path", ["/", "/ui", "/ui/"])
async def test_where_openfaas_has_its_dashboard_a_text_says_what_there_is(server: Serving, *, path: str) -> None:
    answer = await ask(server, path, login=False)
    assert answer.status_code == 404
    assert "/openapi.json" in answer.text


async def test_requests_to_system_are_counted_by_route_and_never_by_what_a_caller_wrote(server: Serving) -> None:
    await ask(server, "/system/function/nobody-at-all")
    await ask(server, "/system/nowhere/at/all")
    await ask(server, "/system/functions", "POST", {"Sec-Fetch-Site": "cross-site"})
    text = (await server.client.get(server.ready["metrics"] + "/metrics")).text
    for labels in (
        'method="GET",path="/system/function/{name}",status="404"',
        'method="GET",path="other",status="404"',
        'method="POST",path="/system/functions",status="403"',
    ):
        assert f"http_requests_total{{{labels}}}" in text
        assert f"http_request_duration_seconds_count{{{labels}}}" in text
    assert "at-all" not in text
    assert "nowhere" not in text


async def test_metrics_show_the_replicas_of_each_function(server: Serving) -> None:
    await ask(server, "/system/function/echo?wait=30s")
    text = (await server.client.get(server.ready["metrics"] + "/metrics")).text
    assert 'gateway_service_count{function_name="echo.openfaas-fn"} 1.0' in text
    assert 'gateway_service_ready_count{function_name="echo.openfaas-fn"} 1.0' in text


async def test_metrics_know_the_functions_of_every_namespace(server: Serving) -> None:
    await ask(server, "/system/namespace/", "POST", document={"name": "elsewhere"})
    deployment = {"service": "far", "namespace": "elsewhere", "image": "functions/alpine:latest", "envProcess": "cat"}
    assert (await ask(server, "/system/functions", "POST", document=deployment)).status_code == 202
    await ask(server, "/system/function/far?namespace=elsewhere&wait=30s")
    text = (await server.client.get(server.ready["metrics"] + "/metrics")).text
    assert 'gateway_service_ready_count{function_name="far.elsewhere"} 1.0' in text


async def test_an_alert_scales_a_function_and_its_end_scales_it_back(server: Serving) -> None:
    deployment = {
        "service": "loaded",
        "image": "functions/alpine:latest",
        "envProcess": "cat",
        "labels": {"com.openfaas.scale.max": "3", "com.openfaas.scale.factor": "34"},
    }
    assert (await ask(server, "/system/functions", "POST", document=deployment)).status_code == 202
    for status, replicas in (("firing", 3), ("resolved", 1)):
        alert = {"status": status, "labels": {"function_name": "loaded.openfaas-fn"}}
        answer = await ask(server, "/system/alert", "POST", document={"status": status, "alerts": [alert]})
        assert answer.json() == {"scaled": [{"function": "loaded.openfaas-fn", "replicas": replicas}]}
        assert (await ask(server, "/system/function/loaded")).json()["replicas"] == replicas


async def test_an_open_gateway_is_not_called_by_a_name_that_a_page_made_point_here(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("open")
    async with serving(folder, "--no-auth", environ={"allowed_hosts": "faas.example.com"}) as server:
        # By every route: a page whose name was made to point here could read what any of them answers.
        for path in (
            "/system/functions",
            "/function/echo",
            "/async-function/unknown",
            "/healthz",
            "/",
            "/openapi.json",
        ):
            right = {(await ask(server, path, login=False)).status_code}
            for host, statuses in (("attacker.example", {403}), ("localhost", right), ("faas.example.com", right)):
                answer = await ask(server, path, headers={"Host": host}, login=False)
                assert {answer.status_code} == statuses, (host, path)
                if statuses == {403}:
                    assert "allowed_hosts" in answer.text
        call = await server.call("/async-function/echo", b"x", {"Host": "attacker.example"})
        assert call.status_code == 403
        for path in ("/metrics", "/healthz"):
            for host, status in (("attacker.example", 403), ("localhost:1", 200)):
                answer = await server.client.get(server.ready["metrics"] + path, headers={"Host": host})
                assert answer.status_code == status, (host, path)


async def test_while_the_provider_is_silent_the_metrics_go_on_without_it(server: Serving) -> None:
    assert (await server.call("/function/echo", b"x")).status_code == 200
    (pid,) = server.ready["processes"]["provider"]
    os.kill(pid, signal.SIGSTOP)
    try:
        text = (await server.client.get(server.ready["metrics"] + "/metrics")).text
    finally:
        os.kill(pid, signal.SIGCONT)
    assert 'gateway_function_invocation_total{code="200",function_name="echo.openfaas-fn"}' in text
    assert "gateway_service_count" not in text
    assert (await ask(server, "/system/functions")).status_code == 200
