"""Install a bundle's requirements into an environment of its own, line by line for whoever waits.

pip of the Python that runs Holdfast does it, with whatever configuration it has on this machine; uv where there is no
pip. What is installed may run code of its own while being built, so the installer sees no more of the provider's
environment than a function does, apart from the installers' own variables.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
import sysconfig
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

from holdfast.errors import DeploymentError, StartError
from holdfast.process import Process, start
from holdfast.provider.deployments import passed_on

# pip and uv read their index, proxies and certificates from these.
_INSTALLERS_OWN = ("PIP_", "UV_", "XDG_")
_NETWORK = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"})
# What describes the Python of whoever started the provider: packages there are not the environment's.
_NOT_PASSED = frozenset({"PYTHONPATH", "VIRTUAL_ENV"})
_TELLING = ("error:", "\N{MULTIPLICATION SIGN} ", "\N{BOX DRAWINGS LIGHT ARC UP AND RIGHT}")
_SHOWN_LINES = 10
_GRACE_S = 2.0


def packages_folder(environment: Path) -> Path:
    """Where an environment made by this Python has its packages. No I/O."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))


def python_tag() -> str:
    """For which Python an environment is: packages with compiled parts fit no other. No I/O."""
    return f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"


def has_requirements(path: Path) -> bool:
    """Whether a requirements file is there and asks for anything. Raises UnicodeDecodeError."""
    if not path.is_file():
        return False
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return any(line and not line.startswith("#") for line in lines)


def installer_environ(own_environ: Mapping[str, str]) -> dict[str, str]:
    """What the installer sees of this process's environment. No I/O."""
    own = {
        name: value
        for name, value in own_environ.items()
        if name.startswith(_INSTALLERS_OWN) or name.upper() in _NETWORK
    }
    return {name: value for name, value in (passed_on(own_environ) | own).items() if name not in _NOT_PASSED}


def install_command(python: Path, requirements: Path, *, has_pip: bool, uv: str | None) -> tuple[str, ...] | None:
    """The command, to be run in the folder of `requirements`, that installs into the environment of `python`.

    None when there is nothing to do it with. No I/O.
    """
    if has_pip:
        pip = (sys.executable, "-m", "pip", "--python", str(python), "install")
        quiet = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--no-color")
        return (*pip, *quiet, "--requirement", requirements.name)
    if uv is not None:
        return (uv, "pip", "install", "--no-progress", "--python", str(python), "--requirement", requirements.name)
    return None


def telling(said: Sequence[str]) -> str:
    """Of what an installer said, the lines that tell what went wrong. No I/O."""
    errors = [line for line in said if line.strip().lower().startswith(_TELLING)]
    if errors == ["ERROR: Exception:"]:  # pip itself broke: its traceback follows
        errors = []
    return "\n".join((errors or said)[-_SHOWN_LINES:])


async def install(
    function: str, requirements: Path, environment: Path, own_environ: Mapping[str, str], *, timeout_s: float
) -> AsyncGenerator[str, None]:
    """Make the environment and install; yields what the installer says. Raises DeploymentError with its own message.

    Closing the generator ends the installer.
    """
    environ = installer_environ(own_environ)
    python = environment / "bin" / "python"
    has_pip = importlib.util.find_spec("pip") is not None
    command = install_command(python, requirements, has_pip=has_pip, uv=shutil.which("uv", path=environ["PATH"]))
    if command is None:
        raise DeploymentError(
            function,
            f"its requirements cannot be installed: {sys.executable} has no pip, and there is no uv. "
            f"This brings pip: {sys.executable} -m ensurepip",
        )
    deadline = asyncio.get_running_loop().time() + timeout_s
    # Without a pip of its own, which would take three seconds: ours installs into it.
    make = (sys.executable, "-m", "venv", "--without-pip", str(environment))
    for argv in (make, command):
        said: list[str] = []
        try:
            async with aclosing(_lines(argv, environ, requirements.parent, deadline)) as lines:
                async for line in lines:
                    said.append(line)
                    yield line
        except TimeoutError:
            raise DeploymentError(function, f"its requirements were not installed within {timeout_s:g} s") from None
        except _Failed as failed:
            why = telling(said) or f"{argv[0]} ended with code {failed.code}"
            raise DeploymentError(function, f"its requirements cannot be installed:\n{why}") from None


class _Failed(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


async def _lines(
    argv: Sequence[str], environ: Mapping[str, str], cwd: Path, deadline: float
) -> AsyncGenerator[str, None]:
    """What a command says, as it says it. Raises _Failed when it exits with another code than 0."""
    said: asyncio.Queue[str | None] = asyncio.Queue()
    try:
        async with start(
            argv, environ=environ, cwd=cwd, on_line=lambda _, line: said.put_nowait(line), grace_s=_GRACE_S
        ) as process:
            end = asyncio.get_running_loop().create_task(_tell_end(process, said))
            try:
                while True:
                    async with asyncio.timeout_at(deadline):
                        line = await said.get()
                    if line is None:
                        break
                    if line.strip():
                        yield line
            finally:
                end.cancel()
                with suppress(asyncio.CancelledError):
                    await end
            code = process.returncode
    except StartError as error:
        yield str(error)
        raise _Failed(127) from error
    if code:
        raise _Failed(code)


async def _tell_end(process: Process, said: asyncio.Queue[str | None]) -> None:
    """None after the last line."""
    await process.wait()
    said.put_nowait(None)
