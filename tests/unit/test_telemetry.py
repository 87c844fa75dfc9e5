import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import exposition
from holdfast.exposition import Service, carry_over, services_shown

COUNT = """
from holdfast import telemetry
from holdfast.function import FunctionRef
counters = telemetry.GatewayMetrics()[FunctionRef("figlet")]
counters.began()
counters.ended(200, 0.1)
counters.accepted(0.001)
"""


def test_invocations_are_those_of_all_processes_that_share_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", COUNT], env=environ, check=True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert exposition.invocations() == {"figlet.openfaas-fn": 6}
    text = exposition.exposition()[0].decode()
    assert 'gateway_function_invocation_started{function_name="figlet.openfaas-fn"} 6.0' in text
    assert 'gateway_invocation_function_started{function_name="figlet.openfaas-fn"} 6.0' in text


def test_services_are_shown_only_where_there_are_any() -> None:
    assert "gateway_service_count" not in exposition.exposition()[0].decode()
    text = exposition.exposition(services_shown([Service("a.b", 2, 1, 1, 50)]))[0].decode()
    assert "# TYPE gateway_service_count gauge" in text
    assert 'gateway_service_ready_count{function_name="a.b"} 1.0' in text


def test_what_was_counted_outlives_the_server_and_what_was_measured_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "metrics"
    carry_over(folder)
    assert list(folder.iterdir()) == []
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    for runs in (1, 2, 3):
        for _ in range(2):
            subprocess.run([sys.executable, "-c", COUNT], env={"PROMETHEUS_MULTIPROC_DIR": str(folder)}, check=True)
        carry_over(folder)
        assert [path.name for path in folder.iterdir()] == ["counter_0.db"]
        text = exposition.exposition()[0].decode()
        assert f'holdfast_calls_accepted_total{{function_name="figlet.openfaas-fn"}} {2 * runs}.0' in text
        assert "gateway_functions_seconds_count{" not in text
    assert exposition.invocations() == {"figlet.openfaas-fn": 12}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics"]


def test_a_crash_while_counts_are_carried_over_neither_loses_nor_doubles_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    subprocess.run([sys.executable, "-c", COUNT], env={"PROMETHEUS_MULTIPROC_DIR": str(folder)}, check=True)
    # Between the two renames: the old folder has its other name, the fresh one has not got it yet.
    (tmp_path / "metrics.new").mkdir()
    folder.rename(tmp_path / "metrics.old")
    carry_over(folder)
    assert exposition.invocations() == {"figlet.openfaas-fn": 2}
    # After them: both are there.
    (tmp_path / "metrics.old").mkdir()
    (tmp_path / "metrics.old" / "counter_1.db").write_bytes((folder / "counter_0.db").read_bytes())
    carry_over(folder)
    assert exposition.invocations() == {"figlet.openfaas-fn": 2}


def test_counts_that_cannot_be_read_do_not_keep_the_server_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    subprocess.run([sys.executable, "-c", COUNT], env={"PROMETHEUS_MULTIPROC_DIR": str(folder)}, check=True)
    (folder / "counter_4711.db").write_bytes(b"\xff\xff\x00\x00" + bytes(range(256)))
    (folder / "counter_4712.db").write_bytes(b"")
    carry_over(folder)
    assert exposition.invocations() == {"figlet.openfaas-fn": 2}


LOG = r"""
import logging, structlog
from holdfast import telemetry
from holdfast.settings import LogSettings
telemetry.configure_logging(LogSettings.from_environment({"log_encoding": "%s"}), "gateway")
structlog.get_logger().warning("refused", target="/a\nforged event", name="\x1b[31m\x9b\x07", raw=b"\x1b\n")
logging.getLogger("library").warning("a library's %%s", "\x1b]0;word")
"""


@pytest.mark.parametrize("encoding", ["console", "json"])
def test_a_value_neither_begins_a_line_of_the_log_nor_steers_a_terminal(encoding: str) -> None:
    said = subprocess.run([sys.executable, "-c", LOG % encoding], check=True, capture_output=True, timeout=60).stderr
    assert said.count(b"\n") == 2
    assert not set(said) & {0x1B, 0x07, 0x9B}
    assert b"forged event" in said
