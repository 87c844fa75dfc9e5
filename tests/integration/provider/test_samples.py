import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.providers import RunningProvider, provider
from tests.support.raw_http import request

HI = r"""
 _   _ _
| | | (_)
| |_| | |
|  _  | |
|_| |_|_|
"""


@pytest.fixture
async def samples(tmp_path: Path) -> AsyncIterator[RunningProvider]:
    # From another folder: the samples do not depend on where Holdfast is started.
    async with provider(None, tmp_path, cwd=tmp_path) as running:
        yield running


async def test_figlet_prints_the_banner_of_its_standard_font(samples: RunningProvider) -> None:
    port = await samples.port("figlet")
    for body in (b"Hi", b"Hi\n"):
        answer = await request(port, body=body)
        assert answer.header("Content-Type") == "text/plain; charset=utf-8"
        lines = answer.text.split("\n")
        assert [line.rstrip() for line in lines] == [*HI.strip("\n").split("\n"), "", ""]
        assert {len(line) for line in lines[:-1]} == {9}, "each line is as wide as the banner"
    assert (await request(port)).body == b""


async def test_echo_answers_its_body_with_its_content_type(samples: RunningProvider) -> None:
    port = await samples.port("echo")
    answer = await request(port, body=b"\x00\xff", headers=[("Content-Type", "image/x-nothing")])
    assert (answer.body, answer.header("Content-Type")) == (b"\x00\xff", "image/x-nothing")
    assert (await request(port, body=b"x")).header("Content-Type") == "application/octet-stream"


async def test_env_shows_the_request_and_the_deployment_but_no_credentials(samples: RunningProvider) -> None:
    port = await samples.port("env")
    headers = [("X-Call-Id", "id-1"), ("Authorization", "Bearer secret"), ("Cookie", "session=secret")]
    lines = (await request(port, "/a%2Fb?c=d", b"xyz", headers=headers)).text.splitlines()
    assert lines == sorted(lines)
    assert {"Http_Path=/a%2Fb", "Http_Query=c=d", "Http_X_Call_Id=id-1", "OPENFAAS_NAME=env"} <= set(lines)
    assert "Http_Authorization=..." in lines
    assert not [line for line in lines if "secret" in line or line.startswith("PATH=")]


async def test_sleep_takes_as_long_as_it_was_told(samples: RunningProvider) -> None:
    port = await samples.port("sleep")
    begun = time.monotonic()
    assert (await request(port, "/?duration=250ms")).text == "slept 250ms\n"
    assert time.monotonic() - begun >= 0.25
    assert (await request(port, headers=[("X-Sleep", "0.1s")])).text == "slept 100ms\n"
    assert (await request(port, "/?duration=long")).status == 400
    begun = time.monotonic()
    assert (await request(port)).text == "slept 2s\n"
    assert time.monotonic() - begun >= 2


async def test_sixty_four_calls_of_sleep_run_at_once(samples: RunningProvider) -> None:
    port = await samples.port("sleep")
    begun = time.monotonic()
    answers = await asyncio.gather(*(request(port, "/?duration=2s") for _ in range(64)))
    assert {answer.text for answer in answers} == {"slept 2s\n"}
    assert time.monotonic() - begun < 30, "one after the other they would take 128 s"


async def test_chaos_answers_what_it_was_told(samples: RunningProvider) -> None:
    port = await samples.port("chaos")
    assert (await request(port)).text == "ok\n"
    told = b'{"status": 503, "body": "busy", "headers": {"Retry-After": "2"}, "times": 2}'
    assert (await request(port, "/set", told)).text == "set\n"
    for _ in range(2):
        answer = await request(port)
        assert (answer.status, answer.text, answer.header("Retry-After")) == (503, "busy", "2")
    assert (await request(port)).status == 200
    assert (await request(port, "/set", b'{"status": 500, "delay": "100ms"}')).status == 200
    for _ in range(3):
        begun = time.monotonic()
        assert (await request(port)).status == 500
        assert time.monotonic() - begun >= 0.1
    assert (await request(port, "/?status=429&body=no&delay=0")).text == "no"
    assert (await request(port, "/reset")).text == "reset\n"
    assert (await request(port)).status == 200
    for bad in (b"x", b"[1]", b'{"status": 42}', b'{"delay": "long"}', b'{"times": 0}', b'{"colour": "red"}'):
        assert (await request(port, "/set", bad)).status == 400
    assert (await request(port, "/?status=x")).status == 400
