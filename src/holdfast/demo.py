"""One asynchronous call, end to end, shown as it is on the wire and checked.

A program that uses Holdfast from outside: it starts `holdfast serve` as a process, speaks HTTP on plain sockets so that
what is printed is what was sent, and takes nothing from the parts it looks at. It leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self
from urllib.parse import urlsplit

import pyfiglet

from holdfast.errors import HoldfastError, SettingError

FUNCTION = "figlet"
BODY = "Hi"
READY_WITHIN_S = 60.0
ANSWER_WITHIN_S = 10.0
CALLBACK_WITHIN_S = 30.0
STOPPED_WITHIN_S = 60.0
# How much later than the request X-Start-Time may be, and how far two readings of the same clock may disagree.
CLOCK_SLACK_NS = 50_000_000

_LARGEST_HEAD = 65536
_SHOWN_LOG_LINES = 40


class DemoFailed(HoldfastError):
    """The demo could not be carried out."""


@dataclass(frozen=True, slots=True)
class Message:
    """An HTTP message as it was on the wire, and read: `first_line`, headers by lower-case name, body."""

    raw: bytes
    first_line: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to be true of the call. `seen` says what was found when it is not."""

    what: str
    passed: bool
    seen: str = ""


def run() -> bool:
    """Run the demo, print it, stop everything. Gives whether everything was as it should be; Ctrl-C is let through."""
    with _terminated_as_interrupted(), _temporary_folder() as folder:
        try:
            checks = _show(Path(folder))
        except DemoFailed as error:
            _say(f"\nThe demo failed: {error}")
            return False
    _say("Checked:")
    for check in checks:
        _say(f"  {'ok    ' if check.passed else 'WRONG '}{check.what}{f': {check.seen}' if not check.passed else ''}")
    failed = sum(not check.passed for check in checks)
    _say(f"\n{failed} of {len(checks)} checks failed." if failed else "\nEverything is as it should be.")
    return not failed


@contextmanager
def _temporary_folder() -> Iterator[str]:
    """Raises SettingError when there is no place for one."""
    try:
        made = tempfile.TemporaryDirectory(prefix="holdfast-demo-")
    except OSError as error:
        expected = f"a folder for temporary files that can be written ({error.strerror or error})"
        raise SettingError("TMPDIR", os.environ.get("TMPDIR", ""), expected) from error
    with made as folder:
        yield folder


def _show(folder: Path) -> list[Check]:
    """The story in order: start, call, 202, callback, stop."""
    with Receiver() as receiver:
        with Server(folder) as server:
            try:
                checks = _call(server, receiver)
            except DemoFailed as error:
                raise DemoFailed(f"{error}\nThe end of the log of holdfast serve:\n{server.end_of_log()}") from error
            _say("\nStopping …")
        return [
            *checks,
            Check("the callback came once", receiver.nothing_more(), "it came again"),
            Check("all parts stopped in order", server.exit_code == 0, f"exit code {server.exit_code}"),
        ]


def _call(server: Server, receiver: Receiver) -> list[Check]:
    _say("Starting a gateway, a worker, the function runtime and a NATS server …")
    began = time.monotonic()
    gateway = server.wait_ready()
    _say(f"ready after {time.monotonic() - began:.1f} s at {gateway}\n")

    url = f"{gateway}/async-function/{FUNCTION}"
    _say(f'$ curl -i --data "{BODY}" -H "X-Callback-Url: {receiver.url}" {url}')
    sent_at_ns = time.time_ns()
    accepted = send(url, receiver.url)
    answered_at_ns = time.time_ns()
    _show_bytes(accepted.raw)
    _say(f"(answered in {(answered_at_ns - sent_at_ns) / 1e6:.1f} ms)\n")
    if " 202 " not in f"{accepted.first_line} ":
        raise DemoFailed("the call was not accepted")

    _say(f"$ nc -l {urlsplit(receiver.url).port}")
    callback = receiver.wait()
    _show_bytes(callback.raw)
    return check(accepted, callback, sent_at_ns=sent_at_ns, answered_at_ns=answered_at_ns)


def check(accepted: Message, callback: Message, *, sent_at_ns: int, answered_at_ns: int) -> list[Check]:
    """Compare the 202 and the callback with what is documented. No I/O."""
    call_id = accepted.headers.get("x-call-id", "")
    start = accepted.headers.get("x-start-time", "")
    told = callback.headers
    duration = told.get("x-duration-seconds", "absent")
    earliest, latest = sent_at_ns - CLOCK_SLACK_NS, answered_at_ns + CLOCK_SLACK_NS
    banner = pyfiglet.figlet_format(BODY).rstrip().encode()

    def told_as(header: str, expected: str) -> tuple[bool, str]:
        seen = told.get(header, "absent")
        return seen == expected and bool(expected), f"{seen!r} instead of {expected!r}"

    return [
        Check("the answer is 202 Accepted", accepted.first_line == "HTTP/1.1 202 Accepted", accepted.first_line),
        Check("the answer has a call id and an empty body", bool(call_id) and not accepted.body, repr(accepted.body)),
        Check(
            "the start time is when the request was sent",
            start.isdecimal() and earliest <= int(start) <= latest,
            f"{start!r} is not between {earliest} and {latest}",
        ),
        Check("the callback is a POST", callback.first_line.startswith("POST / "), callback.first_line),
        Check("X-Call-Id of the callback is the answer's", *told_as("x-call-id", call_id)),
        Check("X-Start-Time of the callback is the answer's", *told_as("x-start-time", start)),
        Check("X-Function-Status is 200", *told_as("x-function-status", "200")),
        Check("X-Duration-Seconds is a time above zero", _is_positive(duration), repr(duration)),
        Check("the body is the banner that pyfiglet draws", callback.body.rstrip() == banner, repr(callback.body)),
    ]


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < CALLBACK_WITHIN_S
    except ValueError:
        return False


class Server:
    """`holdfast serve` as a process of its own, with everything in one folder."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "serve.log"
        self._ready = folder / "ready.json"
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self.exit_code: int | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "holdfast", "serve", "--port", "0", "--metrics-port", "0"]
        command += ["--data", str(self._data), "--ready-file", str(self._ready)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C goes to the foreground's whole group: this way the demo alone hears it and stops the server.
                start_new_session=True,
            )
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._process is not None  # noqa: S101 - __enter__ has run
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self.exit_code = self._process.wait(STOPPED_WITHIN_S)
        except BaseException:
            # Not stopped in time, or a second Ctrl-C: nothing may stay behind, and its parts are in its session.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self.exit_code = self._process.wait()
            raise

    def wait_ready(self) -> str:
        """Wait until the ready file is there; gives the gateway's URL. Raises DemoFailed."""
        assert self._process is not None  # noqa: S101 - used within the context
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._ready.exists():
            # The process's end is what is waited for; the file is looked for in between.
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(0.02)
                raise DemoFailed(f"holdfast serve ended with exit code {code}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"holdfast serve was not ready within {READY_WITHIN_S:g} s")
        gateway = json.loads(self._ready.read_text(encoding="utf-8"))["gateway"]
        return str(gateway).rstrip("/")

    def end_of_log(self) -> str:
        """What the server said last."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_SHOWN_LOG_LINES:])


class Receiver:
    """Listens on a free port as `nc -l` does, and answers 200 so that the callback counts as delivered."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._received: queue.Queue[Message | DemoFailed] = queue.Queue()
        self._thread = threading.Thread(target=self._serve, name="callback receiver", daemon=True)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        # Wakes the accept() of the thread, which close() alone does not.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(ANSWER_WITHIN_S)

    def wait(self) -> Message:
        """The first callback. Raises DemoFailed when none comes in time."""
        try:
            received = self._received.get(timeout=CALLBACK_WITHIN_S)
        except queue.Empty:
            raise DemoFailed(f"no callback within {CALLBACK_WITHIN_S:g} s") from None
        if isinstance(received, DemoFailed):
            raise received
        return received

    def nothing_more(self) -> bool:
        """Whether nothing has come since the last wait(). Final once the server has stopped."""
        return self._received.empty()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # closed: the demo is over
                return
            with connection:
                connection.settimeout(ANSWER_WITHIN_S)
                try:
                    self._received.put(read_message(connection))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                except DemoFailed as error:
                    self._received.put(error)
                except OSError as error:
                    self._received.put(DemoFailed(f"the callback broke off: {error}"))


def send(url: str, callback_url: str) -> Message:
    """Send the documented call, byte for byte what curl would send; gives the answer."""
    parts = urlsplit(url)
    request = (
        f"POST {parts.path} HTTP/1.1\r\n"
        f"Host: {parts.netloc}\r\n"
        "User-Agent: curl/8.0\r\n"
        "Accept: */*\r\n"
        f"X-Callback-Url: {callback_url}\r\n"
        f"Content-Length: {len(BODY)}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        "\r\n"
        f"{BODY}"
    )
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), ANSWER_WITHIN_S) as connection:
            connection.sendall(request.encode())
            return read_message(connection)
    except OSError as error:
        raise DemoFailed(f"the call of {url} was not answered: {error}") from error


def read_message(connection: socket.socket) -> Message:
    """Read one HTTP message that is framed by its Content-Length. Raises DemoFailed and OSError."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += _receive(connection, raw)
        if len(raw) > _LARGEST_HEAD:
            raise DemoFailed(f"an HTTP message without an end of its head: {raw[:200]!r} …")
    head, _, body = raw.partition(b"\r\n\r\n")
    first_line, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        more = _receive(connection, raw)
        raw += more
        body += more
    return Message(raw, first_line, headers, body)


def _receive(connection: socket.socket, before: bytes) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise DemoFailed(f"the connection ended in the middle of an HTTP message: {before[-200:]!r}")
    return data


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, so that it stops its server on both."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _show_bytes(raw: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(raw if raw.endswith(b"\n") else raw + b"\n")
    sys.stdout.buffer.flush()
