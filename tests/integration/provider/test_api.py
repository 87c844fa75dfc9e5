import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.support.providers import provider
from tests.support.raw_http import request

STACK = """
provider: {name: openfaas}
functions:
  count:
    fprocess: wc -c
    image: example/count:1
    environment: {A: "1"}
    labels: {team: documents}
    limits: {memory: 40Mi}
  talk:
    fprocess: sh -c 'cat >&2'
    namespace: tools
"""


async def test_functions_are_listed_as_they_were_deployed(tmp_path: Path) -> None:
    async with provider(STACK, tmp_path) as running:
        found = (await running.get("/system/functions")).json()
        assert [(one["name"], one["namespace"]) for one in found] == [("count", "openfaas-fn")]
        assert found[0]["envProcess"] == "wc -c"
        assert found[0]["image"] == "example/count:1"
        assert found[0]["envVars"] == {"A": "1"}
        assert found[0]["labels"] == {"team": "documents"}
        assert found[0]["limits"] == {"memory": "40Mi"}
        assert datetime.now(UTC) - datetime.fromisoformat(found[0]["createdAt"]) < timedelta(minutes=1)
        assert [one["name"] for one in (await running.get("/system/functions?namespace=tools")).json()] == ["talk"]
        assert (await running.get("/system/functions?namespace=none")).json() == []
        assert (await running.get("/system/namespaces")).json() == ["openfaas-fn", "tools"]


async def test_a_function_is_described_by_name_and_namespace(tmp_path: Path) -> None:
    async with provider(STACK, tmp_path) as running:
        found = await running.ready("count")
        for path in ("count", "count?namespace=openfaas-fn", "count.openfaas-fn", "count?usage=1"):
            found = (await running.get(f"/system/function/{path}")).json()
            assert (found["name"], found["replicas"], found["availableReplicas"]) == ("count", 1, 1)
            assert len(found["endpoints"]) == 1
        assert found["usage"]["totalMemoryBytes"] > 1_000_000
        assert found["usage"]["cpu"] > 0
        for path in ("talk", "talk?namespace=openfaas-fn", "nothing", "count?namespace=tools"):
            answer = await running.get(f"/system/function/{path}")
            assert answer.status_code == 404
            assert answer.text.startswith("there is no function")
        assert (await running.get("/system/function/talk?namespace=tools")).status_code == 200


async def test_wait_holds_the_answer_until_a_replica_is_ready_or_the_time_is_over(tmp_path: Path) -> None:
    (tmp_path / "slow").mkdir()
    # Its import ends when the file `go` is there.
    (tmp_path / "slow" / "handler.py").write_text(
        "import os, time\nprint('importing', flush=True)\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\n"
        "def handle(event, context):\n    return 'ok'\n"
    )
    stack = "functions:\n  slow:\n    lang: python3-http\n    handler: ./slow\n"
    async with provider(stack, tmp_path) as running:
        found = (await running.get("/system/function/slow?wait=100ms")).json()
        assert (found["replicas"], found["availableReplicas"], found["endpoints"]) == (1, 0, [])
        waiting = [asyncio.create_task(running.ready("slow")) for _ in range(20)]
        (tmp_path / "slow" / "go").touch()
        endpoints = {found["endpoints"][0] for found in await asyncio.gather(*waiting)}
        assert len(endpoints) == 1
        assert (await request(await running.port("slow"))).text == "ok"
        assert (await running.get("/system/function/slow?wait=often")).status_code == 400


async def test_output_is_kept_with_replica_and_time(tmp_path: Path) -> None:
    async with provider(STACK, tmp_path) as running:
        port = int((await running.get("/system/function/talk?namespace=tools&wait=30s")).json()["endpoints"][0][17:])
        begun = datetime.now(UTC)
        await request(port, body=b"one\ntwo\n")
        await request(port, body="dré\n".encode())
        async with running.client.stream("GET", "/system/logs?name=talk&namespace=tools&follow=true") as stream:
            records = []
            async for line in stream.aiter_lines():
                records.append(json.loads(line))
                if len(records) == 3:
                    break
        assert [record["text"] for record in records] == ["one", "two", "dré"]
        for record in records:
            assert (record["name"], record["namespace"]) == ("talk", "tools")
            assert record["instance"].startswith("talk-")
            assert begun <= datetime.fromisoformat(record["timestamp"]) <= datetime.now(UTC)
        logs = "/system/logs?name=talk&namespace=tools"
        answer = await running.get(f"{logs}&tail=1")
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert [json.loads(line)["text"] for line in answer.text.splitlines()] == ["dré"]
        assert len((await running.get(f"{logs}&tail=-1")).text.splitlines()) == 3
        assert (await running.get(f"{logs}&instance=other")).text == ""
        assert (await running.get(f"{logs}&since=2999-01-01T00:00:00Z")).text == ""
        assert len((await running.get(f"{logs}&since=2000-01-01T00:00:00Z")).text.splitlines()) == 3


async def test_followers_hear_lines_as_they_come_and_get_the_head_at_once(tmp_path: Path) -> None:
    async with provider(STACK, tmp_path) as running:
        port = int((await running.get("/system/function/talk?namespace=tools&wait=30s")).json()["endpoints"][0][17:])
        async with running.client.stream("GET", "/system/logs?name=talk&namespace=tools&follow=1") as stream:
            assert stream.status_code == 200
            lines = stream.aiter_lines()
            for text in ("first", "second"):
                await request(port, body=f"{text}\n".encode())
                assert json.loads(await asyncio.wait_for(anext(lines), 20))["text"] == text


@pytest.mark.parametrize(
    ("query", "status"),
    [("name=none", 404), ("", 404), ("name=count&tail=many", 400), ("name=count&since=yesterday", 400)],
)
async def test_logs_that_cannot_be_shown_say_why(tmp_path: Path, query: str, status: int) -> None:
    async with provider(STACK, tmp_path) as running:
        answer = await running.get(f"/system/logs?{query}")
        assert answer.status_code == status
        assert answer.text.endswith("\n")


async def test_info_tells_name_and_version(tmp_path: Path) -> None:
    async with provider("functions: {}", tmp_path) as running:
        found = (await running.get("/system/info")).json()
        assert found["provider"]["provider"] == "holdfast"
        assert found["version"]["release"]
        assert found["arch"]
        assert (await running.get("/healthz")).text == "OK\n"
        assert (await running.get("/system/nothing")).status_code == 404
        assert (await running.client.patch("/system/functions")).status_code == 405


async def test_the_api_can_need_a_password(tmp_path: Path) -> None:
    (tmp_path / "basic-auth-user").write_text("admin")
    (tmp_path / "basic-auth-password").write_text("secret\n")
    async with provider("functions: {}", tmp_path, basic_auth="true", secret_mount_path=str(tmp_path)) as running:
        refused = await running.get("/system/functions")
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Basic ")
        right = httpx.BasicAuth("admin", "secret")
        assert (await running.client.get("/system/functions", auth=right)).json() == []
        wrong = httpx.BasicAuth("admin", "guess")
        assert (await running.client.get("/system/functions", auth=wrong)).status_code == 401
        assert (await running.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Host": "localhost:1"}, 202),
        ({"Host": "provider.internal"}, 202),
        ({"Host": "attacker.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://attacker.example"}, 403),
        ({"X-Function-Status": "200"}, 403),
    ],
    ids=["a client", "localhost", "a listed name", "a rebound name", "a page", "an older browser's page", "a callback"],
)
async def test_an_open_runtime_takes_nothing_from_pages_and_callbacks(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with provider("functions: {}", tmp_path, allowed_hosts="provider.internal") as running:
        body = {"service": "sent", "image": "holdfast/echo:latest"}
        answer = await running.client.post("/system/functions", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        names = [one["name"] for one in (await running.get("/system/functions")).json()]
        assert names == (["sent"] if status == 202 else [])
