import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import telemetry
from holdfast.telemetry import Service

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
    assert telemetry.invocations() == {"figlet.openfaas-fn": 6}
    text = telemetry.exposition()[0].decode()
    assert 'gateway_function_invocation_started{function_name="figlet.openfaas-fn"} 6.0' in text
    assert 'gateway_invocation_function_started{function_name="figlet.openfaas-fn"} 6.0' in text


def test_services_are_shown_only_where_there_are_any() -> None:
    assert "gateway_service_count" not in telemetry.exposition()[0].decode()
    text = telemetry.exposition([Service("a.b", 2, 1, 1, 50)])[0].decode()
    assert "# TYPE gateway_service_count gauge" in text
    assert 'gateway_service_ready_count{function_name="a.b"} 1.0' in text
