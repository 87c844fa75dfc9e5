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
    ],
)
def test_a_queue_that_cannot_be_served_is_refused_on_the_command_line(
    tmp_path: Path, command: str, message: str
) -> None:
    ended = subprocess.run(
        [HOLDFAST, *command.split()], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
