"""A function that is a folder: its files, by GET and HEAD, and nothing else of the machine.

Served is what lies in the folder under a name without a leading dot, links included only when they lead to such a file.
There are no listings: a folder is its index.html. Reading blocks the loop for one piece at a time; the files are local.
"""

from __future__ import annotations

import mimetypes
import os
import stat
from email.utils import formatdate, parsedate_to_datetime
from io import FileIO
from pathlib import Path
from urllib.parse import unquote_to_bytes

from holdfast.errors import SettingError
from holdfast.headers import RawHeaders
from holdfast.http1.exchange import Exchange
from holdfast.http1.message import header_lines
from holdfast.watchdog.call import TEXT
from holdfast.watchdog.slots import Slots

PIECE_BYTES = 256 * 1024
INDEX = "index.html"


class StaticFolder:
    """Answers requests with files. Raises SettingError when there is no folder."""

    def __init__(self, static_path: str, slots: Slots) -> None:
        self._root = Path(static_path).resolve()
        self._slots = slots
        if not static_path or not self._root.is_dir():
            raise SettingError("static_path", static_path, "a folder that exists")

    def begin(self, exchange: Exchange) -> None:
        """A request's head is complete."""
        if exchange.method not in {b"GET", b"HEAD"}:
            exchange.respond(405, TEXT + b"Allow: GET, HEAD\r\n", b"A folder of files answers GET and HEAD.\n")
            return
        path, mark, query = exchange.target.partition(b"?")
        found = self._find(path)
        if found is None:
            exchange.respond(404, TEXT, b"There is no such file.\n")
        elif found.is_dir():
            # Relative: in front of the watchdog stands a gateway, whose path is not known here.
            name = path.rsplit(b"/", 1)[1]
            exchange.respond(308, header_lines([(b"Location", b"./%b/%b%b" % (name, mark, query))]))
        else:
            self._send(exchange, found)

    def _find(self, path: bytes) -> Path | None:
        """The file for a path; the folder, when the path lacks the slash at its end; None when it is not to be had."""
        text = os.fsdecode(unquote_to_bytes(path))
        names = [name for name in text.split("/") if name]
        if "\0" in text or any(name.startswith(".") for name in names):
            return None
        try:
            found = self._root.joinpath(*names).resolve(strict=True)
            if found.is_dir():
                if names and not text.endswith("/"):
                    return found if self._inside(found) and (found / INDEX).is_file() else None
                found = (found / INDEX).resolve(strict=True)
        except (OSError, RuntimeError):  # not there, a name too long, links in a circle
            return None
        return found if self._inside(found) and found.is_file() else None

    def _inside(self, found: Path) -> bool:
        """Whether it is still in the folder, links followed, and not hidden there."""
        if not found.is_relative_to(self._root):
            return False
        return not any(name.startswith(".") for name in found.relative_to(self._root).parts)

    def _send(self, exchange: Exchange, path: Path) -> None:
        try:
            file = FileIO(path)
        except OSError:
            exchange.respond(404, TEXT, b"There is no such file.\n")
            return
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            file.close()
            exchange.respond(404, TEXT, b"There is no such file.\n")
            return
        headers = header_lines(_headers(path, facts))
        if _unchanged(exchange, facts):
            file.close()
            exchange.respond(304, headers)
            return
        if exchange.method == b"HEAD":
            file.close()
            exchange.start(200, headers, facts.st_size)
            exchange.end()
            return
        _Sending(exchange, file, self._slots).begin(headers, facts.st_size)


class _Sending:
    """One file on its way, as fast as the client takes it."""

    def __init__(self, exchange: Exchange, file: FileIO, slots: Slots) -> None:
        self._exchange = exchange
        self._file = file
        self._slots = slots
        self._left = 0
        self._paused = False
        self._busy = False

    def begin(self, headers: bytes, length: int) -> None:
        self._slots.take()
        self._left = length
        self._exchange.on_gone(self._close)
        self._exchange.on_flow(self._pause, self._go_on)
        self._exchange.start(200, headers, length)
        self._go_on()

    def _pause(self) -> None:
        self._paused = True

    def _go_on(self) -> None:
        self._paused = False
        if self._busy:
            return  # called from within `write`: the loop below goes on by itself
        self._busy = True
        while self._left and not self._paused and not self._file.closed:
            piece = self._file.read(min(PIECE_BYTES, self._left))
            if not piece:  # the file has become shorter: the answer cannot be completed
                self._exchange.abort()
                break
            self._left -= len(piece)
            if not self._exchange.write(piece):
                break
        self._busy = False
        if not self._left and not self._file.closed:
            self._close()
            self._exchange.end()

    def _close(self) -> None:
        if not self._file.closed:
            self._file.close()
            self._slots.free()


def _headers(path: Path, facts: os.stat_result) -> RawHeaders:
    kind, encoding = mimetypes.guess_type(path.name)
    if encoding is not None or kind is None:
        kind = "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return [
        (b"Content-Type", kind.encode()),
        (b"Last-Modified", formatdate(facts.st_mtime, usegmt=True).encode()),
        (b"ETag", _tag(facts)),
        (b"X-Content-Type-Options", b"nosniff"),
    ]


def _tag(facts: os.stat_result) -> bytes:
    return b'"%x-%x"' % (facts.st_mtime_ns, facts.st_size)


def _unchanged(exchange: Exchange, facts: os.stat_result) -> bool:
    """Whether the client has this file already (RFC 9110, section 13.2.2)."""
    known = exchange.header(b"if-none-match")
    if known is not None:
        tags = {tag.strip().removeprefix(b"W/") for tag in known.split(b",")}
        return b"*" in tags or _tag(facts) in tags
    since = exchange.header(b"if-modified-since")
    if since is None:
        return False
    try:
        return int(facts.st_mtime) <= parsedate_to_datetime(since.decode("latin-1")).timestamp()
    except (ValueError, OverflowError):
        return False
