"""Every call that is refused is counted, whoever refuses it: compared with the answers as a caller sees them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.support.metrics import Metrics, metrics, metrics_when
from tests.support.serving import Serving, serving

ENVIRON = {"max_body_bytes": "2000000", "max_waiting": "20"}
A = b"POST /async-function/env HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
S = b"POST /function/env HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
LARGE = b"x" * 0x200000 + b"\r\n0\r\n\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
REFUSED = {
    "unknown function": (404, A.replace(b"env", b"nobody") + EMPTY),
    "unknown function, synchronous": (404, S.replace(b"env", b"nobody") + EMPTY),
    "unknown function, preferring": (404, S.replace(b"env", b"nobody") + b"Prefer: respond-async\r\n" + EMPTY),
    "no name": (400, A.replace(b"/env", b"/") + EMPTY),
    "no name, synchronous": (400, S.replace(b"/env", b"/") + EMPTY),
    "another method": (405, A.replace(b"POST", b"PUT") + EMPTY),
    "a function that is read": (405, A.replace(b"POST", b"GET") + b"\r\n"),
    "a function that is looked at": (405, A.replace(b"POST", b"HEAD") + b"\r\n"),
    "a function that is cancelled": (405, A.replace(b"POST", b"DELETE") + b"\r\n"),
    "an id": (400, A + b"X-Call-Id: a.b\r\n" + EMPTY),
    "an id, synchronous": (400, S + b"X-Call-Id: a.b\r\n" + EMPTY),
    "two ids": (400, A + b"X-Call-Id: a\r\nX-Call-Id: b\r\n" + EMPTY),
    "two ids, synchronous": (400, S + b"X-Call-Id: a\r\nX-Call-Id: b\r\n" + EMPTY),
    "a time-out": (400, S + b"X-Timeout: soon\r\n" + EMPTY),
    "a delay": (400, A + b"X-Delay: soon\r\n" + EMPTY),
    "a callback": (400, A + b"X-Callback-Url: ftp://x/\r\n" + EMPTY),
    "a key for another request": (422, A + b"Idempotency-Key: k\r\nContent-Length: 1\r\n\r\nb"),
    "declared too large": (413, A + b"Content-Length: 2000001\r\n\r\n"),
    "too large as it comes": (
        413,
        A + b"Transfer-Encoding: chunked\r\n\r\n200000\r\n" + LARGE,
    ),
    "an expectation": (417, A + b"Expect: miracles\r\n" + EMPTY),
    "a coding": (501, A + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
    "a tunnel": (501, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a head": (431, A + b"X-Much: " + b"x" * 200_000 + b"\r\n" + EMPTY),
    "a target": (414, A.replace(b"env", b"env/" + b"x" * 20_000) + EMPTY),
    "no host": (400, b"POST /async-function/env HTTP/1.1\r\nConnection: close\r\n" + EMPTY),
    "not HTTP": (400, b"hello\r\n\r\n"),
}
NOT_CALLS = (
    b"GET /async-function/no-call-has-this-id HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /system/functions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /system/calls?status=nonsense HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
)
FULL = 503


def refused(found: Metrics) -> Counter[int]:
    return Counter(
        {int(labels["code"]): int(value) for labels, value in found.samples("holdfast_gateway_refused_total") if value}
    )


async def status(server: Serving, request: bytes) -> int:
    answer = await server.raw(request)
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer[9:12])


async def test_every_refusal_is_counted_by_its_status_and_nothing_else_is(tmp_path: Path) -> None:
    async with serving(tmp_path, "--gateways", "2", "--workers", "0", environ=ENVIRON) as server:
        assert await status(server, A + b"Idempotency-Key: k\r\nContent-Length: 1\r\n\r\na") == 202
        assert refused(await metrics(server)) == Counter()
        seen: Counter[int] = Counter()
        for what, (expected, request) in REFUSED.items():
            answered = await status(server, request)
            assert answered == expected, what
            seen[answered] += 1
        for request in NOT_CALLS:
            assert await status(server, request) in {400, 401, 404}
        while (answered := await status(server, A + EMPTY)) == 202:
            pass
        assert answered == FULL
        seen[FULL] += 1
        await metrics_when(server, lambda found: refused(found) == seen)
