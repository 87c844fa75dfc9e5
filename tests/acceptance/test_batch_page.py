"""The batch that the page shows, run as it stands there."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import yaml

from tests.docs.pages import ROOT, blocks
from tests.support.serving import Serving, serving

PAGE = ROOT / "docs" / "howto" / "batch.md"


async def test_the_batch_of_the_page_is_complete_once_and_counts_what_failed(tmp_path: Path) -> None:
    handler, script = (block.text for block in blocks("python") if block.page == PAGE)
    (stack,) = (yaml.safe_load(block.text) for block in blocks("yaml") if block.page == PAGE)
    results = tmp_path / "batches"
    stack["functions"]["gather"]["environment"]["folder"] = str(results)
    stack["functions"]["upper"] = {"lang": "dockerfile", "handler": "./gather", "fprocess": "tr a-z A-Z"}
    (tmp_path / "gather").mkdir()
    (tmp_path / "gather" / "handler.py").write_text(handler)
    (tmp_path / "stack.yml").write_text(yaml.safe_dump(stack))
    (tmp_path / "send.py").write_text(script)
    async with serving(tmp_path, "--no-auth", "--stack", str(tmp_path / "stack.yml")) as server:
        sent = []
        for _ in range(2):  # the second time changes nothing
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(tmp_path / "send.py"), server.url, "upper", "b7", "one", "two", "three"),
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == 0
            sent.append(out.decode())
        assert sent[0] == sent[1]
        said = await said_by_gather(server, "is complete")
        assert said.endswith("batch b7 is complete, 0 of 3 failed")
        ids = [line.split()[0] for line in sent[0].splitlines()]
        assert [(results / "b7" / f"{call_id}.200").read_text() for call_id in ids] == ["ONE", "TWO", "THREE"]


async def said_by_gather(server: Serving, wanted: str) -> str:
    """The first line of the function's log with a text in it."""
    async with (
        asyncio.timeout(60),
        server.client.stream("GET", f"{server.url}/system/logs?name=gather&follow=true") as log,
    ):
        async for line in log.aiter_lines():
            text = str(json.loads(line)["text"])
            if wanted in text:
                return text
    raise AssertionError(f"the log ended without {wanted!r}")
