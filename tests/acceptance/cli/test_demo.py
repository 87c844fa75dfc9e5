"""`holdfast demo`, which `make demo` runs."""

import signal
from pathlib import Path

import psutil
import pyfiglet
import pytest

from tests.acceptance.cli.conftest import Holdfast

SOON_S = 30.0


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes that were started with the demo's own folder for temporary files."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def assert_nothing_left(folder: Path) -> None:
    _, alive = psutil.wait_procs(processes_of(folder), timeout=SOON_S)
    assert alive == []
    assert list(folder.iterdir()) == []


def test_the_demo_shows_and_checks_one_call_and_leaves_nothing_behind(holdfast: Holdfast, temporary: Path) -> None:
    ended = holdfast("demo", environ={"TMPDIR": str(temporary)})
    text = ended.out.decode()
    assert (ended.code, ended.err) == (0, ""), text
    assert 'curl -i --data "Hi" -H "X-Callback-Url: http://127.0.0.1:' in text
    assert "HTTP/1.1 202 Accepted\r\n" in text
    assert pyfiglet.figlet_format("Hi").rstrip() in text
    assert "Everything is as it should be." in text
    assert "WRONG" not in text
    assert_nothing_left(temporary)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_a_demo_that_is_interrupted_leaves_nothing_behind(
    holdfast: Holdfast, temporary: Path, number: signal.Signals, code: int
) -> None:
    process = holdfast.start("demo", environ={"TMPDIR": str(temporary)})
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"Starting")
    assert len(processes_of(temporary)) > 1  # it says so once its server has been started
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip()) == (code, b"")
    assert_nothing_left(temporary)


def test_a_demo_whose_server_does_not_start_says_why(holdfast: Holdfast, temporary: Path) -> None:
    ended = holdfast("demo", environ={"TMPDIR": str(temporary), "log_level": "loud"})
    assert ended.code == 1
    assert "The demo failed: holdfast serve ended with exit code 2" in ended.out.decode()
    assert "log_level='loud' cannot be used" in ended.out.decode()
    assert_nothing_left(temporary)
