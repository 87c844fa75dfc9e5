from __future__ import annotations

import socket
from pathlib import Path

import pytest

from holdfast import host


def test_a_host_is_the_same_for_all_its_processes_and_another_in_another_namespace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = host.host_id()
    assert host.host_id() == here
    (tmp_path / "net").write_text("")
    monkeypatch.setattr(host, "NETWORK_NAMESPACE", tmp_path / "net")
    assert host.host_id() != here


def test_where_proc_does_not_say_the_hosts_name_stands_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host, "BOOT_ID", tmp_path / "not there")
    monkeypatch.setattr(host, "NETWORK_NAMESPACE", tmp_path / "not there")
    found = host.host_id()
    assert found == host.host_id()
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert host.host_id() != found


def test_the_operator_has_the_last_word() -> None:
    assert host.host_id("rack-7") == "rack-7"
