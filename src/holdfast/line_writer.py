"""Writes lines where people read them, from a thread of its own: nothing that serves waits for a reader or needs one.

A write to standard error may fail, because whoever read it is gone or its file system is full, and may wait for ever,
because whoever reads it has stopped doing so. Neither is a reason to stop serving. So a line is put into a queue and
written by a thread. A line that cannot be written is dropped and counted, and so is one that comes while MOST_WAITING
bytes wait already: a log that nobody reads costs so much memory and no more. Once lines can be written again the first
is told how many are missing.

Not a non-blocking descriptor: that would be one for everybody who shares it, the user's shell among them.
"""

from __future__ import annotations

import atexit
import os
import select
import threading
from collections import deque
from collections.abc import Callable

MOST_WAITING = 1024 * 1024
# Bytes. Some 8,000 lines: a burst, and not an hour of a reader that hangs.
DRAIN_S = 2.0
# How long the end of a process waits for its last lines to be written.
LOOK_AGAIN_MS = 1000


class LineWriter:
    """A text stream of whole lines, as logging and structlog want one. Any thread may write; writing never raises."""

    def __init__(
        self,
        descriptor: int,
        *,
        on_dropped: Callable[[], None] | None = None,
        on_back: Callable[[int], None] | None = None,
    ) -> None:
        """`on_dropped` is told of each line that is lost, `on_back` how many were, once a line got through again.

        Both may be called on the writer's thread.
        """
        self._descriptor = descriptor
        self._on_dropped = on_dropped
        self._on_back = on_back
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        self._missing = 0
        self._torn = False
        """Whether the last line was written in part."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> int:
        """Take a line, or lines, with their ends."""
        data = text.encode(errors="backslashreplace")
        with self._changed:
            # One that is larger than all the room is taken when nothing waits.
            taken = not self._waiting or self._waiting + len(data) <= MOST_WAITING
            if taken:
                taken = self._begin()
            if taken:
                self._lines.append(data)
                self._waiting += len(data)
                self._changed.notify_all()
        if not taken:
            self.missed()
        return len(text)

    def flush(self) -> None:
        """Nothing: lines are written as soon as somebody takes them. `drain` waits for that."""

    def drain(self, timeout_s: float = DRAIN_S) -> None:
        """Return once all is written or dropped, at most after `timeout_s`: before a process ends."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def _begin(self) -> bool:
        """Have a thread; False when the system grants none."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="line writer", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
            atexit.register(self.drain)
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                line = self._lines.popleft()
            written = self._put(line)
            with self._changed:
                self._waiting -= len(line)
                self._changed.notify_all()
            if written:
                self._tell_missing()
            else:
                self.missed()

    def _put(self, line: bytes) -> bool:
        """Write a line, however long its reader takes; False when it cannot be written."""
        left = memoryview(b"\n" + line if self._torn else line)
        size = len(left)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                # Somebody else has made it non-blocking, and its reader is slow.
                waiting = select.poll()
                waiting.register(self._descriptor, select.POLLOUT)
                waiting.poll(LOOK_AGAIN_MS)
            except OSError:
                self._torn = self._torn if len(left) == size else True
                return False
        self._torn = False
        return True

    def missed(self) -> None:
        """Count a line that was lost, here or on another way to the same reader."""
        with self._changed:
            self._missing += 1
        if self._on_dropped is not None:
            self._on_dropped()

    def _tell_missing(self) -> None:
        with self._changed:
            missing, self._missing = self._missing, 0
        if missing and self._on_back is not None:
            self._on_back(missing)
