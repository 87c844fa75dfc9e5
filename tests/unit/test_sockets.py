from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from holdfast import sockets
from holdfast.errors import StartError


def test_a_port_in_use_is_refused_with_the_option_that_changes_it() -> None:
    with sockets.listen("127.0.0.1", 0, purpose="gateway", option="--port") as taken:
        with pytest.raises(StartError) as caught:
            sockets.listen("127.0.0.1", sockets.port_of(taken), purpose="gateway", option="--port")
        assert "for the gateway: Address already in use" in str(caught.value)
        assert "--port" in str(caught.value)


def test_a_shared_port_is_refused_when_somebody_else_shares_it() -> None:
    first, second = sockets.listen_shared("127.0.0.1", 0, 2, purpose="gateway", option="--port")
    with first, second:
        assert sockets.port_of(first) == sockets.port_of(second)
        with pytest.raises(StartError):
            sockets.listen_shared("127.0.0.1", sockets.port_of(first), 2, purpose="gateway", option="--port")


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(StartError, match=r"192\.0\.2\.1:0"):
        sockets.listen("192.0.2.1", 0, purpose="gateway", option="--port")


def test_an_inherited_socket_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with sockets.listen("127.0.0.1", 0, purpose="test", option="none") as parent:
        monkeypatch.setenv("TEST_FD", str(os.dup(parent.fileno())))
        child = sockets.inherited("TEST_FD")
        assert child is not None
        with child:
            assert sockets.port_of(child) == sockets.port_of(parent)
        assert sockets.inherited("TEST_FD") is None


def test_a_descriptor_that_is_no_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_FD", "many")
    with pytest.raises(StartError, match="TEST_FD='many'"):
        sockets.inherited("TEST_FD")


def test_the_url_names_this_machine_where_all_addresses_listen() -> None:
    with sockets.listen("0.0.0.0", 0, purpose="test", option="none") as everywhere:
        assert sockets.url_of(everywhere) == f"http://127.0.0.1:{sockets.port_of(everywhere)}"
    if socket.has_ipv6:
        with sockets.listen("::1", 0, purpose="test", option="none") as six:
            assert sockets.url_of(six) == f"http://[::1]:{sockets.port_of(six)}"


LIMITED = """
import resource
from holdfast import sockets
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
sockets.allow_many()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard if hard >= 0 else sockets.MANY, sockets.MANY), hard))
"""


def test_as_many_connections_are_allowed_as_the_system_lets_a_process_ask_for() -> None:
    ran = subprocess.run([sys.executable, "-c", LIMITED], stdout=subprocess.PIPE, text=True, check=True)
    assert ran.stdout == "True\n"
