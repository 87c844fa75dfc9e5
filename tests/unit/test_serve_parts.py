import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.serve.data_folder import DataFolder
from holdfast.serve.options import ServeOptions
from holdfast.serve.parts import Listening, gateways
from holdfast.settings import GatewaySettings, ProviderSettings


@contextlib.contextmanager
def listening(options: ServeOptions) -> Iterator[Listening]:
    opened = Listening.open(options)
    try:
        yield opened
    finally:
        for sock in (*opened.gateways, opened.metrics, opened.provider, *opened.workers, *opened.queues):
            sock.close()


@pytest.mark.parametrize(
    ("changes", "together"),
    [({}, True), ({"durability": "os"}, False), ({"nats": "nats://127.0.0.1:4222"}, False)],
)
def test_calls_share_commits_where_serve_knows_that_each_is_an_fsync(
    tmp_path: Path, changes: dict[str, str], *, together: bool
) -> None:
    options = replace(ServeOptions(data=tmp_path, port=0, metrics_port=0), **changes)  # type: ignore[arg-type]
    with listening(options) as sockets:
        [gateway] = gateways(options, DataFolder(tmp_path), sockets, "nats://127.0.0.1:4222")
    settings = GatewaySettings.from_environment({**gateway.defaults, **gateway.environ})
    assert settings.group_commit is together


@pytest.mark.parametrize(
    ("environ", "host"),
    [({}, "127.0.0.1"), ({"provider_port": ""}, "127.0.0.1"), ({"provider_host": "127.0.0.2"}, "127.0.0.2")],
)
def test_the_runtime_is_for_this_host_alone_unless_its_own_settings_say_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], host: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with listening(ServeOptions(data=tmp_path, port=0, metrics_port=0)) as sockets:
        assert sockets.provider.getsockname()[0] == host
        assert sockets.provider.getsockname()[1] != ProviderSettings.from_environment({}).port
