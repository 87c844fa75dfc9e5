"""Ids that are patterns of NATS, paths, or nothing: none reaches the call of somebody else."""

from __future__ import annotations

import pytest

from tests.support import raw_http
from tests.support.nats import nats_server
from tests.support.parts import gateway
from tests.support.raw_function import raw_function

PATTERNS = [
    "*",
    "%2A",
    ">",
    "%3E",
    "*.*",
    "a.b",
    "..",
    "%2e%2e",
    "%00",
    "a%0d%0ab",
    "a%20b",
    "%F0%9F",
    "a" * 200,
    "",
    "/",
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_a_pattern_is_nobodys_id(method: str) -> None:
    async with nats_server() as nats, raw_function() as function, gateway(nats.url, function.url) as front:
        port = int(front.url.rpartition(":")[2])
        accepted = await raw_http.request(port, "/async-function/raw", b"x")
        call = accepted.header("Location")
        assert call is not None
        for pattern in PATTERNS:
            for rest in ("", "/result", "/events", "?wait=1s"):
                answer = await raw_http.request(port, f"/async-function/{pattern}{rest}", method=method)
                assert answer.status in {404, 405}, (pattern, rest)
        shown = await raw_http.request(port, call, method="GET")
        assert '"status":"waiting"' in shown.text.replace(" ", "")
