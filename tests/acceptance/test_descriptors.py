"""What a function is given of what its runtime has open: its own standard streams, no socket and no file."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.serving import serving


async def test_a_command_gets_no_socket_and_no_file_of_the_parts(tmp_path: Path) -> None:
    stack = tmp_path / "stack.yml"
    stack.write_text(
        "version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n  open:\n    fprocess: ls -l /proc/self/fd\n"
    )
    async with serving(tmp_path, "--stack", str(stack)) as server:
        listed = (await server.call("/function/open", b"x")).text
        opened = dict(re.findall(r" (\d+) -> (\S+)", listed))
        own = {opened[number] for number in "012"}
        others = {where for where in opened.values() if where not in own}
        assert not [where for where in others if where.startswith("socket:") or str(tmp_path) in where], listed
