import sys
from pathlib import Path

import pytest

from holdfast.provider.install import (
    has_requirements,
    install_command,
    installer_environ,
    packages_folder,
    telling,
)


def test_pip_of_this_python_installs_and_uv_only_where_there_is_no_pip() -> None:
    python, file = Path("/env/bin/python"), Path("/files/requirements.txt")
    with_pip = install_command(python, file, has_pip=True, uv="/bin/uv")
    assert with_pip is not None
    assert with_pip[:5] == (sys.executable, "-m", "pip", "--python", "/env/bin/python")
    assert with_pip[-2:] == ("--requirement", "requirements.txt")
    with_uv = install_command(python, file, has_pip=False, uv="/bin/uv")
    assert with_uv is not None
    assert with_uv[:3] == ("/bin/uv", "pip", "install")
    assert install_command(python, file, has_pip=False, uv=None) is None


def test_an_installer_sees_its_own_variables_and_no_passwords_of_ours() -> None:
    seen = installer_environ(
        {
            "PATH": "/bin",
            "HOME": "/home/me",
            "PIP_NO_INDEX": "1",
            "https_proxy": "http://127.0.0.1:3128",
            "nats_url": "nats://user:password@host",
            "PYTHONPATH": "/mine",
            "VIRTUAL_ENV": "/mine",
        }
    )
    assert {name for name in seen if name != "PATH"} == {"HOME", "PIP_NO_INDEX", "https_proxy"}


@pytest.mark.parametrize(
    ("text", "asks"), [("", False), ("# nothing\n\n  # yet\n", False), ("# a\npyfiglet\n", True), ("-r more.txt", True)]
)
def test_an_empty_requirements_file_asks_for_nothing(tmp_path: Path, text: str, asks: bool) -> None:  # noqa: FBT001
    (tmp_path / "requirements.txt").write_text(text)
    assert has_requirements(tmp_path / "requirements.txt") is asks
    assert not has_requirements(tmp_path / "none.txt")


def test_of_what_pip_says_the_errors_are_told_and_without_any_the_end() -> None:
    said = ["Looking", "ERROR: Could not find a version", "ERROR: No matching distribution", "[notice] new pip"]
    assert telling(said) == "ERROR: Could not find a version\nERROR: No matching distribution"
    assert telling(["one", "two"]) == "one\ntwo"
    assert telling(["ERROR: Exception:", "Traceback", "OSError: full"]).endswith("OSError: full")
    assert telling([]) == ""


def test_packages_lie_where_venv_puts_them() -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert packages_folder(Path("/env")) == Path("/env/lib") / version / "site-packages"
