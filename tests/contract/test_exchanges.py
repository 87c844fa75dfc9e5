"""What faas-cli sends, and the answers with which it is content.

Each file of exchanges/ is one story on one server: requests in the order in which faas-cli makes them, as its public
source and OpenFaaS's API document have them.

    command     the command line that leads to the request
    send        method and target
    agent       User-Agent, when it is not faas-cli's own; faas-cli says its version, older parts of it say Go's
    login       none or wrong; by default /system gets the password
    headers     more request headers; {callback} and {five_minutes_ago} are filled in
    json, body  the request's body
    ready       before it, wait until this function (of `namespace`) has a ready replica, as `faas-cli ready` would
    status      the statuses that faas-cli takes for success, or for the failure that is meant
    answer      json, lines (of JSON), text, headers: what must be in the answer; texts are patterns. without: members
                that must not be in it
    meanwhile   a request that is made while the answer, which must not end, is read; then_lines must follow
    callback    what must come to {callback}
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio
import yaml

from tests.support.receiver import Receiver, receiver
from tests.support.serving import Serving, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGENT = "faas-cli/0.17.4"
STORIES = sorted((Path(__file__).parent / "exchanges").glob("*.yml"))
Step = dict[str, Any]


class Stage(NamedTuple):
    server: Serving
    receiver: Receiver


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="stage")
async def _stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with serving(tmp_path_factory.mktemp("serve")) as server, receiver() as called_back:
        yield Stage(server, called_back)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.stem)
async def test_faas_cli_gets_the_answers_that_it_accepts(stage: Stage, story: Path) -> None:
    for step in yaml.safe_load(story.read_text("utf-8")):
        await play(stage, step)


async def play(stage: Stage, step: Step) -> None:
    """Make one request and check its answer."""
    if "ready" in step:
        await wait_ready(stage.server, step["ready"], step.get("namespace", "openfaas-fn"))
    request = build(stage, step)
    response = await stage.server.client.send(request, stream=True)
    try:
        if response.status_code not in step["status"]:
            await response.aread()
            pytest.fail(f"{step['command']}\n{step['send']}\n{response.status_code} {response.text}")
        answer = step.get("answer", {})
        for name, pattern in answer.get("headers", {}).items():
            assert re.fullmatch(pattern, response.headers[name]), (step["command"], name, response.headers[name])
        if "meanwhile" in step:
            await follow(stage, step, response)
        else:
            check(step, (await response.aread()).decode())
    finally:
        await response.aclose()
    if "callback" in step:
        await check_callback(stage.receiver, step["callback"], response.headers["X-Call-Id"])


def build(stage: Stage, step: Step) -> httpx.Request:
    method, target = step["send"].split(" ", 1)
    # RFC 3339 without a fraction, as Go formats it.
    since = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    headers = {"User-Agent": step.get("agent", AGENT), "Accept-Encoding": "gzip"}
    content = step["body"].encode() if "body" in step else None
    if "json" in step:
        # Go's encoder writes no white space and no trailing line end; member order is the struct's.
        content = json.dumps(step["json"], separators=(",", ":")).encode()
        headers["Content-Type"] = "application/json"
    for name, value in step.get("headers", {}).items():
        headers[name] = value.format(callback=stage.receiver.url)
    login = step.get("login", "right" if target.startswith("/system/") else "none")
    if login != "none":
        password = (stage.server.folder / "data/secrets/basic-auth-password").read_text().strip()
        proof = httpx.BasicAuth("admin", password if login == "right" else "wrong")
        headers["Authorization"] = proof._auth_header
    url = stage.server.url + target.format(five_minutes_ago=since)
    return httpx.Request(method, url, headers=headers, content=content)


async def wait_ready(server: Serving, name: str, namespace: str) -> None:
    password = (server.folder / "data/secrets/basic-auth-password").read_text().strip()
    answer = await server.client.get(
        f"{server.url}/system/function/{name}?namespace={namespace}&wait=30s", auth=("admin", password)
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["availableReplicas"], f"{name} did not become ready:\n{server.log}"


def check(step: Step, text: str) -> None:
    answer = step.get("answer", {})
    where = f"{step['command']}\n{step['send']}\n{text}"
    if "text" in answer:
        assert answer["text"] in text, where
    if "json" in answer:
        document = json.loads(text)
        assert contains(document, answer["json"]), where
        for name in answer.get("without", ()):
            assert f'"{name}"' not in text, where
    if "lines" in answer:
        assert contains([json.loads(line) for line in text.splitlines()], answer["lines"]), where


async def follow(stage: Stage, step: Step, response: httpx.Response) -> None:
    """Read lines until the expected ones have come, do something, read on until what that leads to has come."""
    lines = response.aiter_lines()
    await read_until(lines, step["answer"]["lines"])
    await play(stage, step["meanwhile"])
    await read_until(lines, step["then_lines"])


async def read_until(lines: AsyncIterator[str], expected: list[Any]) -> None:
    seen: list[Any] = []
    while not contains(seen, expected):
        seen.append(json.loads(await anext(lines)))


async def check_callback(called_back: Receiver, expected: Step, call_id: str) -> None:
    await called_back.wait_for_ids({call_id})
    callback = next(one for one in called_back.callbacks if one["X-Call-Id"] == call_id)
    assert callback.body.decode() == expected["body"]
    for name, pattern in expected["headers"].items():
        assert re.fullmatch(pattern, callback[name]), (name, callback[name])


def contains(actual: Any, expected: Any) -> bool:
    """Whether a document has everything that is expected: members of objects, in lists something that contains each."""
    match expected:
        case dict():
            return isinstance(actual, dict) and all(
                name in actual and contains(actual[name], value) for name, value in expected.items()
            )
        case list():
            return isinstance(actual, list) and all(any(contains(one, wanted) for one in actual) for wanted in expected)
        case str():
            return isinstance(actual, str) and (actual == expected or re.fullmatch(expected, actual) is not None)
        case _:
            return bool(actual == expected)
