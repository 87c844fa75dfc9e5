"""Unpack a bundle that somebody sent: into one folder, nothing outside it, and not without end.

Only regular files and folders are taken, under plain relative names; links, devices and whatever else a tar archive may
hold are refused rather than made safe. How large an archive becomes cannot be seen from its size (a thousandfold is
easily done), so everything is counted while it is decompressed, the archive's own headers included.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from holdfast.bundle import HANDLER, MANIFEST, Manifest
from holdfast.errors import DeploymentError


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What an archive may become."""

    max_bytes: int = 512 * 1024 * 1024
    """Of all files together."""
    max_files: int = 20_000
    """Folders count too."""
    max_name_bytes: int = 1024
    """Of a path within the archive: far below the kernel's 4096, which counts the folder's own path in."""
    max_header_bytes: int = 64 * 1024
    """Between two files: names and attributes, which tar's extensions make as long as they like."""


UNPACK_LIMITS = UnpackLimits()

_CHUNK = 65_536
_COMPONENT_BYTES = 255  # the longest file name that Linux's file systems have
_MANIFEST_BYTES = 65_536


def unpack(archive: Path, folder: Path, name: str, limits: UnpackLimits = UNPACK_LIMITS) -> Manifest:
    """Unpack into an empty folder; gives the manifest. Blocks.

    `name` is the function's, for messages. Raises DeploymentError, and then the folder holds a part of it.
    """
    try:
        with gzip.open(archive) as decompressed:
            _unpack_all(_Metered(decompressed), folder, name, limits)
    except _TooMuchError as error:
        raise _refused(name, f"a header in it is larger than {limits.max_header_bytes} bytes") from error
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _refused(name, f"it is no whole tar.gz archive ({error})") from error
    if not (folder / HANDLER).is_dir():
        raise _refused(name, f"it has no folder {HANDLER}")
    return _manifest(folder / MANIFEST, name)


def _unpack_all(metered: _Metered, folder: Path, name: str, limits: UnpackLimits) -> None:
    files = size = 0
    metered.allow(limits.max_header_bytes)
    # "r|": a stream, which is never sought in, so that all that is read passes the meter.
    with tarfile.open(fileobj=cast("IO[bytes]", metered), mode="r|") as archive:
        for member in archive:
            files, size = files + 1, size + member.size
            parts = _checked(member, name, limits)
            if files > limits.max_files:
                raise _refused(name, f"it holds more than {limits.max_files} files")
            if size > limits.max_bytes:
                raise _refused(name, f"unpacked it is larger than {limits.max_bytes} bytes")
            if parts:
                metered.allow(member.size + limits.max_header_bytes)
                _take(archive, member, folder.joinpath(*parts), name)
            metered.allow(limits.max_header_bytes)


def _checked(member: tarfile.TarInfo, name: str, limits: UnpackLimits) -> list[str]:
    """The path of a member within the folder, empty for the folder itself. Raises DeploymentError."""
    shown = ascii(member.name[:100])
    if not (member.isreg() or member.isdir()) or member.issparse():
        kind = "a link" if member.issym() or member.islnk() else "neither a file nor a folder"
        raise _refused(name, f"{shown} is {kind}: only files and folders can be in a bundle")
    try:
        encoded = member.name.encode()
    except UnicodeEncodeError as error:
        raise _refused(name, f"the name {shown} is not UTF-8") from error
    parts = [part for part in member.name.split("/") if part not in {"", "."}]
    if member.name.startswith("/") or ".." in parts or "\0" in member.name:
        raise _refused(name, f"{shown} leads out of the bundle's folder")
    if len(encoded) > limits.max_name_bytes or any(len(part.encode()) > _COMPONENT_BYTES for part in parts):
        raise _refused(name, f"the name {shown} is too long")
    if parts and parts[0] != HANDLER and parts != [MANIFEST]:
        raise _refused(name, f"{shown} is neither {MANIFEST} nor in {HANDLER}/")
    return parts


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, name: str) -> None:
    """Write one member."""
    try:
        if member.isdir():
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            return
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        content = archive.extractfile(member)
        assert content is not None  # noqa: S101 - it is a regular file
        with path.open("xb") as file:
            while chunk := content.read(_CHUNK):
                file.write(chunk)
    except (FileExistsError, NotADirectoryError) as error:
        raise _refused(name, f"{member.name[:100]!a} stands in it twice") from error
    path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _manifest(path: Path, name: str) -> Manifest:
    if not path.is_file():
        raise _refused(name, f"it has no {MANIFEST}")
    if path.stat().st_size > _MANIFEST_BYTES:
        raise _refused(name, f"{MANIFEST} in it is larger than {_MANIFEST_BYTES} bytes")
    try:
        return Manifest.load(path.read_bytes())
    except ValueError as error:
        raise _refused(name, str(error)) from error


def _refused(name: str, why: str) -> DeploymentError:
    return DeploymentError(name, f"bundle refused: {why}")


class _TooMuchError(Exception):
    """More was read than was allowed."""


class _Metered:
    """A stream of which no more can be read than was allowed last."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._left = 0

    def allow(self, size: int) -> None:
        """Let so many bytes be read from now on, instead of what was allowed before."""
        # tarfile reads whole records, which may be another file's already.
        self._left = size + 2 * tarfile.RECORDSIZE

    def read(self, size: int) -> bytes:
        """Read up to so many bytes."""
        if size > self._left:
            raise _TooMuchError
        data = self._stream.read(size)
        self._left -= len(data)
        return data
