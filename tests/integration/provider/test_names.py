"""Names that lead elsewhere: refused wherever one can be given, and nothing is written or read outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.providers import provider

EVIL = (
    "../evil",
    "..",
    "a/b",
    "/etc/evil",
    "..%2fevil",
    "a\0b",
    "a\nb",
    ".hidden",
    "x" * 300,
    "A_b",
    "\N{FULLWIDTH SOLIDUS}x",
)


async def test_a_name_that_leads_elsewhere_is_refused_wherever_it_is_given(tmp_path: Path) -> None:
    outside = tmp_path / "evil"
    async with provider("functions: {}", tmp_path, provider_data=str(tmp_path / "a" / "data")) as running:
        assert (await running.get("/system/info")).status_code == 200  # all folders are made now
        before = sorted(path for path in tmp_path.rglob("*"))
        for name in EVIL:
            requests: list[tuple[str, str, dict[str, Any]]] = [
                ("POST", "/system/secrets", {"name": name, "value": "x"}),
                ("PUT", "/system/secrets", {"name": name, "value": "x"}),
                ("DELETE", "/system/secrets", {"name": name}),
                ("POST", "/system/secrets", {"name": "ok", "namespace": name, "value": "x"}),
                ("POST", "/system/namespace/", {"name": name}),
                ("POST", "/system/functions", {"service": name, "image": "x", "envProcess": "cat"}),
                ("POST", "/system/functions", {"service": "f", "namespace": name, "image": "x", "envProcess": "cat"}),
                ("POST", "/system/functions", {"service": "f", "image": "x", "envProcess": "cat", "secrets": [name]}),
                ("DELETE", "/system/functions", {"functionName": name}),
            ]
            for method, path, document in requests:
                answer = await running.client.request(method, path, json=document)
                assert answer.status_code in {400, 404}, (method, path, document, answer.text)
            for path, query in (
                ("/system/logs", {"name": name}),
                ("/system/secrets", {"namespace": name}),
                ("/system/bundles", {"name": name}),
            ):
                method = "POST" if path == "/system/bundles" else "GET"
                answer = await running.client.request(method, path, params=query)
                assert answer.status_code in {400, 404}, (path, query, answer.text)
        assert sorted(path for path in tmp_path.rglob("*")) == before
    assert not outside.exists()
