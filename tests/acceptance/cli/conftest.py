"""The command line as a user runs it: a process, and a small real HTTP server that says what a gateway would."""

import json
import os
import pty
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

FIGLET = {
    "name": "figlet",
    "namespace": "openfaas-fn",
    "image": "",
    "envProcess": "figlet",
    "invocationCount": 3,
    "replicas": 1,
    "availableReplicas": 1,
    "createdAt": "2026-01-31T08:00:00Z",
    "labels": {"team": "banners"},
    "annotations": {},
}
ECHO = {**FIGLET, "name": "echo", "envProcess": "cat", "invocationCount": 12, "createdAt": "2026-01-30T08:00:00Z"}
READY_WITHIN_S = 60.0
CALL_ID = "4d0b6c1e-43a4-4b1c-9d5e-2f2f3c0a7b11"


@dataclass
class Request:
    """What the server received."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class Scripted:
    """What the server answers. `body` may be an iterator, whose pieces are sent one by one."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""


Answering = Callable[[Request], Scripted]


def as_json(value: Any) -> Scripted:
    return Scripted(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


def like_a_gateway(request: Request) -> Scripted:
    """Two functions, figlet and echo."""
    path, _, _ = request.target.partition("?")
    match path.split("/")[1:]:
        case ["async-function", "figlet", *_]:
            return Scripted(202, {"X-Call-Id": CALL_ID, "X-Start-Time": "1543915495384346700"})
        case ["function", "figlet" | "echo", *_]:
            return Scripted(200, {}, b"answer to " + request.body)
        case ["system", "functions"]:
            return as_json([FIGLET, ECHO])
        case ["system", "function", "figlet"]:
            return as_json(FIGLET)
        case ["system", "info"]:
            version = {"release": "0.1.0", "sha": ""}
            return as_json({"provider": {"provider": "holdfast", "version": version}, "version": version})
        case _:
            return Scripted(404, {"Content-Type": "text/plain"}, b"no such thing\n")


class Listening(ThreadingHTTPServer):
    """A server that takes a client's leaving as part of the test."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FakeGateway:
    """An HTTP server that records what it is sent."""

    def __init__(self) -> None:
        self.answering: Answering = like_a_gateway
        self.received: queue.Queue[Request] = queue.Queue()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                request = Request(self.command, self.path, self.headers.items(), self.rfile.read(length))
                outer.received.put(request)
                answer = outer.answering(request)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if isinstance(answer.body, bytes):
                    self.send_header("Content-Length", str(len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)
                else:
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    self.send_pieces(answer.body)

            def send_pieces(self, pieces: Iterator[bytes]) -> None:
                try:
                    for piece in pieces:
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                        self.wfile.flush()
                    self.wfile.write(b"0\r\n\r\n")
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the library's names

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = Listening(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def request(self) -> Request:
        """The next request received."""
        return self.received.get(timeout=10)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    server = FakeGateway()
    yield server
    server.close()


@dataclass
class Holdfast:
    """The command line in an environment of its own: no settings, passwords or servers of whoever runs the tests."""

    home: Path
    environ: dict[str, str]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start it, all three streams piped unless told otherwise; as `holdfast` unless `name` says `faas`."""
        program = Path(sys.executable).parent / options.pop("name", "holdfast")
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environ = {**self.environ, **options.pop("environ", {})}
        return subprocess.Popen([program, *arguments], env=environ, cwd=self.home, **{**streams, **options})

    def __call__(
        self,
        *arguments: str,
        stdin: bytes = b"",
        environ: Mapping[str, str] | None = None,
        name: str = "holdfast",
    ) -> "Ended":
        """Run it to its end."""
        process = self.start(*arguments, environ=environ or {}, name=name)
        out, err = process.communicate(stdin, timeout=60)
        return Ended(process.returncode, out, err.decode())


@dataclass
class Ended:
    """How it ended."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> Sequence[str]:
        return self.out.decode().splitlines()


@pytest.fixture
def holdfast(tmp_path: Path) -> Holdfast:
    keep = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    return Holdfast(tmp_path, {**keep, "HOME": str(tmp_path)})


class Server(NamedTuple):
    """A running server and the home of its user."""

    gateway: str
    port: int
    home: Path
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    ready = home / "ready.json"
    command = [sys.executable, "-m", "holdfast", "serve", "--port", "0", "--metrics-port", "0"]
    command += ["--durability", "os", "--ready-file", str(ready)]
    with (home / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, cwd=home, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while not ready.exists():
            code = None
            try:
                code = process.wait(0.05)
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, (home / "serve.log").read_text()
            assert code is None, (home / "serve.log").read_text()
        gateway = json.loads(ready.read_text())["gateway"]
        yield Server(gateway, int(gateway.rpartition(":")[2]), home, process)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (home / "serve.log").read_text()


@pytest.fixture
def user(holdfast: Holdfast, server: Server) -> Holdfast:
    """The command line for the user who runs the server."""
    holdfast.environ.update(HOME=str(server.home), OPENFAAS_URL=server.gateway)
    return holdfast


def on_a_terminal(holdfast: Holdfast, *arguments: str, environ: dict[str, str], stream: str = "stdout") -> bytes:
    """Standard output, or error, or both, of a command that has a terminal there."""
    ours, theirs = pty.openpty()
    streams = ("stdout", "stderr") if stream == "both" else (stream,)
    process = holdfast.start(*arguments, stdin=subprocess.DEVNULL, environ=environ, **dict.fromkeys(streams, theirs))
    os.close(theirs)
    process.communicate(timeout=30)
    text = os.read(ours, 65536)
    os.close(ours)
    return text
