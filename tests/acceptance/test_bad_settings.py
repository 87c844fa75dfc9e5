"""A setting that turns out to be unusable only when a part uses it: said and ended as any other bad setting is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.serving import HOLDFAST

TIMEOUT_S = 60


@pytest.mark.parametrize(
    ("part", "environ", "message"),
    [
        ("gateway", {"basic_auth": "true"}, "secret_mount_path='nowhere' cannot be used: expected a folder with"),
        ("worker", {"basic_auth": "true"}, "basic-auth-user cannot be read: No such file or directory"),
        ("provider", {"basic_auth": "true"}, "secret_mount_path='nowhere' cannot be used"),
        ("gateway", {"provider_secret_mount_path": "./none"}, "provider_secret_mount_path='./none' cannot be used"),
        ("worker", {"callback_signing_secret_path": "none"}, "callback_signing_secret_path='none' cannot be used"),
        ("gateway", {"callback_allow": "300.0.0.0/8"}, "callback_allow='300.0.0.0/8' cannot be used"),
        ("gateway", {"nats_url": "ftp://user:hidden@host"}, "nats_url='ftp://…@host' cannot be used"),
        ("watchdog", {"fprocess": "no-such-command"}, "fprocess='no-such-command' cannot be used"),
        ("watchdog", {"mode": "static", "static_path": "none"}, "static_path='none' cannot be used"),
        ("watchdog", {}, "fprocess='' cannot be used"),
        ("gateway", {"faas_nats_channel": "a.b"}, "faas_nats_channel='a.b' cannot be used: expected a queue's name"),
        ("worker", {"queue_name": "holdfast"}, "queue_name='holdfast' cannot be used: expected a queue's name"),
        ("gateway", {"gateway_port": "many"}, "gateway_port='many' cannot be used"),
        ("worker", {"gateway_url": "http://user:hidden@host"}, "gateway_url='http://…@host' cannot be used"),
        ("worker", {"gateway_url": "http://a:1,http://b:2"}, "gateway_url='http://a:1,http://b:2' cannot be used"),
        ("worker", {"gateway_url": "host:8080"}, "gateway_url='host:8080' cannot be used"),
        ("worker", {"faas_gateway_address": "http://host"}, "faas_gateway_address='http://host' cannot be used"),
        ("gateway", {"functions_provider_url": "http://h:99999"}, "functions_provider_url='http://h:99999' cannot"),
        ("gateway", {"gateway_host": "127.0.0.1:80"}, "gateway_host='127.0.0.1:80' cannot be used"),
        ("gateway", {"allowed_hosts": "a.example,http://b"}, "allowed_hosts='a.example,http://b' cannot be used"),
        ("gateway", {"nats_url": "nats://a:4222,nats://b:99999"}, "nats_url='nats://b:99999' cannot be used"),
        ("gateway", {"faas_nats_address": "nats://host"}, "faas_nats_address='nats://host' cannot be used"),
        ("provider", {"gateway_url": "http://a b"}, "gateway_url='http://a b' cannot be used"),
        ("watchdog", {"fprocess": "cat", "upstream_url": "http://["}, "upstream_url='http://[' cannot be used"),
    ],
)
def test_a_setting_that_cannot_be_used_ends_a_part_with_exit_code_2_and_one_message(
    tmp_path: Path, part: str, environ: dict[str, str], message: str
) -> None:
    ports = dict.fromkeys(("gateway_port", "gateway_metrics_port", "worker_metrics_port", "provider_port", "port"), "0")
    ended = subprocess.run(
        [HOLDFAST, part],
        env={**os.environ, **ports, "secret_mount_path": "nowhere", **environ},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "hidden" not in ended.stderr
    assert ended.stderr.count("cannot be used") == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("worker --queue a.b", "queue_name='a.b' cannot be used: expected a queue's name"),
        ("worker --queue slow --max-inflight 0", "0 is not in the range"),
        ("serve --queue slow=0", "'slow=0' does not end in a number of calls"),
        ("serve --queue holdfast", "this name is Holdfast's own"),
        ("serve --queue slow=1 --queue slow=2", "--queue slow is given more than once"),
        ("serve --queue faas-request=4", "it is the default queue"),
        ("serve --host http://localhost", "'http://localhost' is neither a host's name nor an address"),
        ("serve --nats nats://user:hidden@h:0", "'nats://…@h:0' cannot be used"),
        (
            "list -g http://user:hidden@h",
            "'http://…@h' is not a URL such as",
        ),
        ("list -g http://a,http://b", "its host is neither a name nor an address"),
    ],
)
def test_what_cannot_be_served_or_called_is_refused_on_the_command_line(
    tmp_path: Path, command: str, message: str
) -> None:
    ended = subprocess.run(
        [HOLDFAST, *command.split()], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert "hidden" not in ended.stderr


@pytest.mark.parametrize(
    "environ",
    [
        {"faas_gateway_address": "http://host"},
        {"callback_allow": "http://host"},
        {"allowed_hosts": "host:1"},
        {"upstream_timeout": "soon"},
        {"faas_nats_address": "a b"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_serve_refuses_a_setting_of_its_parts_once_and_before_any_of_them_runs(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    ended = subprocess.run(
        [HOLDFAST, "serve", "--port", "0", "--metrics-port", "0", "--data", str(tmp_path / "data")],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("cannot be used") == 1
    assert not (tmp_path / "data").exists()
