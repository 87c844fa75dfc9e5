"""The register of servers on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.client.servers import find_server, forget_server, register_server, same_gateway


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_a_registered_server_is_found_under_every_name_of_this_machine(tmp_path: Path) -> None:
    register_server("http://127.0.0.1:8080", tmp_path)
    for url in ("http://127.0.0.1:8080", "http://localhost:8080/", "http://[::1]:8080", "http://LOCALHOST:8080"):
        server = find_server(url)
        assert server is not None
        assert server.data == tmp_path
        assert server.pid == os.getpid()


@pytest.mark.parametrize("url", ["http://127.0.0.1:8081", "http://example.com:8080", "https://127.0.0.1:8080"])
def test_another_gateway_is_not_taken_for_it(tmp_path: Path, url: str) -> None:
    register_server("http://127.0.0.1:8080", tmp_path)
    assert find_server(url) is None


def test_a_server_that_listens_everywhere_is_found_on_this_machine(tmp_path: Path) -> None:
    register_server("http://0.0.0.0:8080", tmp_path)
    assert find_server("http://localhost:8080") is not None


def test_servers_on_two_ports_do_not_disturb_each_other(tmp_path: Path) -> None:
    register_server("http://127.0.0.1:8080", tmp_path / "one")
    register_server("http://127.0.0.1:8081", tmp_path / "two")
    one, two = find_server("http://127.0.0.1:8080"), find_server("http://127.0.0.1:8081")
    assert one is not None
    assert two is not None
    assert (one.data.name, two.data.name) == ("one", "two")


def test_a_forgotten_server_is_not_found(tmp_path: Path) -> None:
    path = register_server("http://127.0.0.1:8080", tmp_path)
    forget_server(path)
    forget_server(path)
    assert find_server("http://127.0.0.1:8080") is None


def test_a_server_forgets_only_itself(tmp_path: Path) -> None:
    path = register_server("http://127.0.0.1:8080", tmp_path)
    entry = json.loads(path.read_text())
    path.write_text(json.dumps({**entry, "pid": entry["pid"] + 1}))
    forget_server(path)
    assert path.exists()


def test_a_server_that_was_killed_is_not_found(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from holdfast.client import register_server\n"
    script += "register_server('http://127.0.0.1:8080', Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
    assert find_server("http://127.0.0.1:8080") is None


def test_a_process_that_got_the_number_of_a_dead_server_is_not_taken_for_it(tmp_path: Path) -> None:
    path = register_server("http://127.0.0.1:8080", tmp_path)
    entry = json.loads(path.read_text())
    path.write_text(json.dumps({**entry, "started": entry["started"] - 100}))
    assert find_server("http://127.0.0.1:8080") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', "null"])
def test_a_damaged_entry_counts_as_none(tmp_path: Path, text: str) -> None:
    path = register_server("http://127.0.0.1:8080", tmp_path)
    path.write_text(text)
    assert find_server("http://127.0.0.1:8080") is None


def test_the_register_is_for_its_owner_only(tmp_path: Path) -> None:
    path = register_server("http://127.0.0.1:8080", tmp_path)
    assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://127.0.0.1:8080", "http://localhost:8080/", True),
        ("http://example.com", "http://EXAMPLE.com:80/", True),
        ("https://example.com", "https://example.com:443", True),
        ("http://example.com", "https://example.com", False),
        ("http://example.com/a", "http://example.com/b", False),
        ("http://example.com:1", "http://example.com:2", False),
        ("http://a:b", "http://localhost", False),
    ],
)
def test_two_spellings_of_one_gateway_are_the_same(one: str, other: str, *, same: bool) -> None:
    assert same_gateway(one, other) is same
