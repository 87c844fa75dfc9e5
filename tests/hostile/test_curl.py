"""curl as the client of a gateway: what it is told to send arrives at the function, and it reads every answer."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.hostile import curl
from tests.hostile.conftest import Stage
from tests.hostile.mirror import fingerprint

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(curl.CURL is None, reason="curl is not installed"),
]


CHUNKED = ("--header", "Transfer-Encoding: chunked")


class Call(NamedTuple):
    """A command line for curl, after whose URL the path comes; and what the function must have seen."""

    arguments: tuple[str, ...]
    path: str = ""
    body: bytes = b""
    method: bytes = b"POST"
    target: bytes = b"/"
    status: int = 200


CALLS = [
    Call(("--data-binary", "@-"), body=b"hello"),
    Call(("--data-binary", "@-"), body=bytes(range(256))),
    Call(("--data-binary", "@-"), body=b"x" * 900_000),
    Call(("--data-binary", "@-", "--header", "Expect: 100-continue"), body=b"hello"),
    Call(("--data-binary", "@-", *CHUNKED), body=b"hello"),
    Call(("--data-binary", "@-", *CHUNKED, "--header", "Expect: 100-continue"), body=b"hi"),
    Call(("--data-binary", "@-", "--http1.0"), body=b"hello"),
    Call(("--data-binary", "@-", "--http2"), body=b"hello"),
    Call(("--data-binary", "@-", "--header", "Content-Type;"), body=b"hello"),
    Call(("--data-binary", "@-", "--header", "X: gr\u00fc\u00dfe"), body=b"hello"),
    Call(("--data-binary", "@-", "--header", "Connection: close"), body=b"hello"),
    Call(("--data-binary", "@-", "--header", "Host: example.com:81"), body=b"hello"),
    Call(("--data-binary", "@-", "--header", "X-Big: " + "x" * 60_000), body=b"hello"),
    Call(("--request", "POST")),
    Call(("--request", "POST", "--path-as-is"), path="/a/../b/./c//d", target=b"/a/../b/./c//d"),
    Call(
        ("--request", "POST", "--path-as-is", "--globoff"),
        path="/%2e%2e/%00?a=b&a=%26[1]",
        target=b"/%2e%2e/%00?a=b&a=%26[1]",
    ),
    Call(("--request", "POST"), path="?", target=b"/?"),
    Call(("--get", "--data", "a=b"), path="/x", method=b"GET", target=b"/x?a=b"),
    Call(("--head",), method=b"HEAD"),
    Call(("--request", "PUT", "--data-binary", "@-"), body=b"hello", method=b"PUT"),
    Call(("--request", "PATCH", "--data-binary", "@-"), body=b"hello", method=b"PATCH"),
    Call(("--request", "DELETE"), method=b"DELETE"),
    Call(("--request", "OPTIONS"), method=b"OPTIONS"),
    Call(("--request", "GET", "--data-binary", "@-"), body=b"hello", method=b"GET"),
    Call(("--request", "post"), status=400),
    Call(("--request", "FOO"), status=400),
    Call(("--data-binary", "@-", "--header", "Content-Length: 3", *CHUNKED), body=b"abc", status=400),
    Call(("--data-binary", "@-", "--header", "Transfer-Encoding: gzip"), body=b"abc", status=400),
    Call(("--data-binary", "@-", "--header", "Expect: tea"), body=b"abc", status=417),
    Call(("--data-binary", "@-", "--header", "Host: a b"), body=b"abc", status=400),
    Call(("--data-binary", "@-", "--header", "Host;"), body=b"abc"),
    Call(("--data-binary", "@-", "--header", "X Y: a"), body=b"abc", status=400),
    Call(("--data-binary", "@-", "--header", "X-Call-Id: a/b"), body=b"abc", status=400),
    Call(("--data-binary", "@-", *("--header", "X-Big: " + "x" * 50_000) * 3), body=b"abc", status=431),
    Call(("--request", "POST", "--request-target", "*"), status=400),
    Call(("--request", "POST", "--request-target", "function/mirror"), status=400),
    Call(("--request", "POST", "--request-target", "http://other/function/mirror/a?b"), target=b"/a?b"),
]


def _shown(call: Call) -> str:
    return " ".join(argument[:30] for argument in (*call.arguments, call.path))


@pytest.mark.parametrize("call", CALLS, ids=_shown)
async def test_what_curl_sends_arrives_and_it_reads_the_answer(stage: Stage, call: Call) -> None:
    url = f"http://127.0.0.1:{stage.port}/function/mirror{call.path}"
    code, output = await curl.run("--include", *call.arguments, url, body=call.body)
    assert code == 0
    answer = curl.answers(output)[-1]
    assert answer.status == call.status
    if call.status == 200:
        call_id = answer.first(b"x-call-id")
        assert call_id is not None
        got = await stage.function.wait_for(call_id)
        assert (got.method, got.target, got.body) == (call.method, call.target, call.body)
        body = b"" if call.method == b"HEAD" else fingerprint(got.method, got.target, got.body)
        assert answer.body == body


async def test_a_connection_that_curl_keeps_carries_one_answer_after_another(stage: Stage) -> None:
    urls = [f"http://127.0.0.1:{stage.port}/function/mirror/{number}" for number in range(20)]
    urls[7] = urls[7].replace("mirror", "nobody")
    urls[11] = urls[11].replace("/function/", "/async-function/")
    code, output = await curl.run("--request", "POST", "--write-out", "\n%{http_code} %{num_connects}\n", *urls)
    assert code == 0
    lines = output.decode().split("\n")
    told = [line.split() for line in lines if line[:4] in {"200 ", "202 ", "404 "}]
    assert [status for status, _ in told] == ["200"] * 7 + ["404"] + ["200"] * 3 + ["202"] + ["200"] * 8
    assert [connects for _, connects in told] == ["1"] + ["0"] * 19
    bodies = [fingerprint(b"POST", b"/%d" % number, b"").decode() for number in range(20) if number not in {7, 11}]
    assert [line for line in lines if len(line) == 64] == bodies
