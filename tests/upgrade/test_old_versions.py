"""What is taken for an old version is one, in each of its processes: else the other tests here would show nothing."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import psutil

from tests.support.bundles import bundle, image_of
from tests.support.old_versions import OldVersion
from tests.support.receiver import receiver
from tests.support.serving import serving

# What a Python handler imports is what its watchdog runs.
WHERE = "import holdfast\n\ndef handle(event, context):\n    return holdfast.__file__\n"


async def test_every_part_of_an_old_version_runs_its_own_code(tmp_path: Path, old: OldVersion) -> None:
    async with receiver() as callbacks, serving(tmp_path, "--no-auth", environ=old.environ) as server:
        assert server.banner.startswith(f"Holdfast {old.name} is ready")
        assert (await server.client.get(server.ready["provider"] + "/system/info")).json()["version"][
            "release"
        ] == old.name
        packed = bundle({"handler.py": WHERE}, name="where")
        await server.call("/system/bundles?name=where", packed)
        document = {"service": "where", "image": image_of(packed, "where")}
        await server.call("/system/functions", json.dumps(document).encode())

        answer: httpx.Response = await server.call("/function/where")
        assert answer.text == str(old.folder / "holdfast" / "__init__.py")
        assert answer.headers["X-Served-By"] == f"holdfast/{old.name}"
        await server.accept("where", X_Callback_Url=callbacks.url)
        (callback,) = await callbacks.wait_for(1)
        assert callback["User-Agent"] == f"queue-worker/{old.name}"
        assert callback.body.decode() == answer.text

        for process in psutil.Process(server.process.pid).children(recursive=True):
            assert process.environ()["PYTHONPATH"].startswith(str(old.folder)), process.cmdline()
