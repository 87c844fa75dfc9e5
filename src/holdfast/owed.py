"""Counts that are owed: ids that were sent to NATS and are counted once NATS has them.

An id is noted before it is sent and struck off together with its count. What is noted lies in a file that all parts of
`holdfast serve` share a folder with, so it outlives a `kill -9`; of parts without one it lies in memory. An id that is
still there when its process has ended, or that nobody confirmed in time, is in doubt: whoever looks asks NATS by id.

    stored <call id> <message id> [<accepted at>]    a call was sent to its queue: accepted, once it is there
    ended <call id> <finished at>                    a record with an end was sent: ended, once it stands
    replay <call id> <message id> <claim>            a dead letter is being put back: to be gone on with
    replayed <call id> <message id> <claim>          it was, and is being deleted: accepted, once it is gone

Instants are Unix nanoseconds. Asking NATS, and what follows from the answer, is queue/reconcile.py's.

HOT: to note an entry and to strike it off costs 0.3 µs together. Between a count and the strike that follows lie some
100 ns in which a `kill -9` makes the count one too high; a call takes a thousand times as long.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from holdfast.errors import QueueError

SUFFIX = ".owed"
SLOT_BYTES = 384
# An entry with the longest ids there are: 128 letters for a call's, 190 for the message of its replay.
MOST_SLOTS = 8192
# More ids than one process has under way.
_FILE_BYTES = SLOT_BYTES * (MOST_SLOTS + 1)
NO_SLOT = 0
# For an entry beyond those: it is counted when it is confirmed, and not if its process is killed before.
_WRITE = struct.Struct(f"{SLOT_BYTES}s").pack_into
_MAGIC = b"holdfast owed counts 1\n"

STORED, ENDED, REPLAY, REPLAYED = "stored", "ended", "replay", "replayed"
_WORDS = {STORED: (1, 2), ENDED: (1,), REPLAY: (2,), REPLAYED: (2,)}


def stored(call_id: str, message_id: str) -> bytes:
    """The entry of a call that is sent into a queue. HOT."""
    return f"stored {call_id} {message_id}\n".encode()


def stored_with_key(call_id: str, message_id: str, accepted_at_ns: int) -> bytes:
    """The same of a call whose message others may send as well: theirs has another instant."""
    return f"stored {call_id} {message_id} {accepted_at_ns}\n".encode()


def ended(call_id: str, finished_at_ns: int) -> bytes:
    """The entry of a record that is sent with the end of its call. HOT."""
    return f"ended {call_id} {finished_at_ns}\n".encode()


def replay(call_id: str, message_id: str, claim: str) -> bytes:
    """The entry of a dead letter that the holder of a claim puts back, as a message of that id."""
    return f"replay {call_id} {message_id} {claim}\n".encode()


def replayed(call_id: str, message_id: str, claim: str) -> bytes:
    """The entry of one that was put back and is being deleted."""
    return f"replayed {call_id} {message_id} {claim}\n".encode()


class Entry(NamedTuple):
    """An entry as its words."""

    kind: str
    call_id: str
    words: tuple[str, ...]
    """What follows the call's id."""

    @classmethod
    def read(cls, entry: bytes) -> Self | None:
        """None for what is no entry: its process ended while it wrote, and sent nothing."""
        try:
            kind, call_id, *words = entry.decode("ascii").split()
        except ValueError:
            return None
        if len(words) not in _WORDS.get(kind, ()):
            return None
        if kind == ENDED and not words[0].isdigit():
            return None
        return cls(kind, call_id, tuple(words))


class Owed:
    """What one process owes."""

    def __init__(self) -> None:
        self.doubtful: set[int] = set()
        """Slots of what nobody confirmed in time. They are taken until they are struck off."""
        self._begin(mmap.mmap(-1, _FILE_BYTES))

    def _begin(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._free: list[int] = []
        self._fresh = SLOT_BYTES
        self.doubtful.clear()

    def note(self, entry: bytes) -> int:
        """Owe a count from here on; gives the slot that holds the entry. HOT."""
        if self._free:
            at = self._free.pop()
        else:
            at = self._fresh
            if at + SLOT_BYTES > _FILE_BYTES:
                return NO_SLOT
            self._fresh = at + SLOT_BYTES
        _WRITE(self._memory, at, entry)
        return at

    def strike(self, slot: int) -> None:
        """It is counted, or never will be. HOT."""
        if slot:
            self._memory[slot] = 0
            self._free.append(slot)
            if self.doubtful:
                self.doubtful.discard(slot)

    def doubt(self, slot: int) -> None:
        """Nobody knows whether NATS has it: to be asked for by id."""
        if slot:
            self.doubtful.add(slot)

    def settle(self, slot: int, error: BaseException) -> None:
        """Sending it failed: strike it off when that was certain, doubt it otherwise."""
        if isinstance(error, QueueError) and not error.perhaps_stored:
            self.strike(slot)
        else:
            self.doubt(slot)

    def entry(self, slot: int) -> bytes:
        """What a slot holds."""
        return _entry(self._memory[slot : slot + SLOT_BYTES])

    @property
    def count(self) -> int:
        """How many entries there are."""
        return (self._fresh - SLOT_BYTES) // SLOT_BYTES - len(self._free)

    @contextlib.contextmanager
    def kept_in(self, folder: Path | None) -> Iterator[None]:
        """Keep what is noted from here on in a file of this process; None: in memory.

        The kernel holds the file's lock for as long as the process lives. Left without an entry it is removed. Raises
        OSError when the folder takes no file.
        """
        if folder is None:
            yield
            return
        file, path = _make(folder)
        self._begin(mmap.mmap(file, _FILE_BYTES))
        try:
            yield
        finally:
            if not self.count:
                path.unlink(missing_ok=True)
            self._begin(mmap.mmap(-1, _FILE_BYTES))
            os.close(file)  # and the lock with it


def _make(folder: Path) -> tuple[int, Path]:
    """A file of empty slots, and its path."""
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    making, path = folder / f".{name}", folder / f"{name}{SUFFIX}"
    file = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    # Written, not left as a hole: a disk that is full must be met here, and not as SIGBUS by a write to memory.
    os.pwrite(file, _MAGIC.ljust(_FILE_BYTES, b"\0"), 0)
    # Locked before it has a name that others look for.
    fcntl.flock(file, fcntl.LOCK_EX)
    making.rename(path)
    return file, path


def _entry(slot: bytes) -> bytes:
    return slot[: slot.find(b"\n") + 1]


OWED = Owed()
"""What this process owes. One for all of it, as its metrics are."""


class LeftBehind:
    """What a process owed that has ended. Get it from `left_behind`."""

    def __init__(self, path: Path, file: int) -> None:
        self._path = path
        self._file = file
        self.slots: dict[int, bytes] = {}
        """The entries that are left, by their slots."""
        data = os.pread(file, _FILE_BYTES, 0)
        if data.startswith(_MAGIC):
            for at in range(SLOT_BYTES, len(data), SLOT_BYTES):
                if data[at]:
                    self.slots[at] = _entry(data[at : at + SLOT_BYTES])

    def strike(self, slot: int) -> None:
        """It is counted, or never will be."""
        os.pwrite(self._file, b"\0", slot)
        del self.slots[slot]

    def close(self) -> None:
        """Let others look after it; without an entry it is removed."""
        if not self.slots:
            self._path.unlink(missing_ok=True)
        os.close(self._file)


def left_behind(folder: Path) -> Iterator[LeftBehind]:
    """What ended processes owe, each locked for us: of all that look one gets it. To be closed."""
    for path in folder.glob(f"*{SUFFIX}"):
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue  # somebody was faster
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)  # it lives, or another looks after it
        else:
            yield LeftBehind(path, file)
