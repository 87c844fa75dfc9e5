"""Pack a function's folder into a bundle: the same bytes for the same files, whoever packs them and when.

Names, contents and whether a file may be run are packed; owners, times and other permissions are not. Links are
followed: a bundle holds files only.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from holdfast.bundle import HANDLER, MANIFEST, BundleImage, Manifest
from holdfast.errors import DeploymentError

BUILD_FOLDER = "build"

# What is about a folder and not of the function: histories, caches, environments.
LEFT_OUT = (
    *(".git", ".hg", ".svn", ".idea", ".vscode", ".DS_Store"),
    *("__pycache__", "*.pyc", ".venv", "venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", "*.egg-info"),
)
_LEVEL = 6


class Packed(NamedTuple):
    """A bundle on disk."""

    path: Path
    image: BundleImage
    files: int
    size: int
    """Of the archive, in bytes."""


def archive_path(folder: Path, name: str) -> Path:
    """Where the bundle of a function lies whose stack is in `folder`. No I/O."""
    return folder / BUILD_FOLDER / f"{name}.tar.gz"


def pack(handler: Path, manifest: Manifest, target: Path) -> Packed:
    """Pack a folder, replacing what `target` was. Raises DeploymentError, and then `target` is as before."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            files = _write(handler, manifest, target.parent, fresh)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise DeploymentError(manifest.name, f"its folder {handler} cannot be packed: {reason}") from error
    return _packed(manifest.name, target, files)


def packed_before(name: str, target: Path) -> Packed | None:
    """The bundle that an earlier build left; None when there is none."""
    return _packed(name, target, 0) if target.is_file() else None


def _packed(name: str, path: Path, files: int) -> Packed:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Packed(path, BundleImage(name, digest), files, path.stat().st_size)


def _write(handler: Path, manifest: Manifest, builds: Path, path: Path) -> int:
    count = 0
    with (
        path.open("wb") as file,
        # No name and no time: they would make each archive another one.
        gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        content = manifest.dump()
        archive.addfile(_member(MANIFEST, len(content), runs=False), io.BytesIO(content))
        archive.addfile(_folder(HANDLER))
        for name, source in _files(handler, builds, manifest.name):
            if source.is_dir():
                archive.addfile(_folder(f"{HANDLER}/{name}"))
                continue
            count += 1
            with source.open("rb") as opened:
                found = os.fstat(opened.fileno())
                runs = bool(found.st_mode & stat.S_IXUSR)
                archive.addfile(_member(f"{HANDLER}/{name}", found.st_size, runs=runs), opened)
    return count


def _files(folder: Path, builds: Path, function: str) -> Iterator[tuple[str, Path]]:
    """Every folder and file, in the order of names; links followed, but never in a circle."""
    yield from _below(folder, "", frozenset({folder.resolve(), builds.resolve()}), function)


def _below(folder: Path, prefix: str, above: frozenset[Path], function: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if any(fnmatch(path.name, pattern) for pattern in LEFT_OUT):
            continue
        name = f"{prefix}{path.name}"
        if path.is_dir():
            real = path.resolve()
            if real not in above:
                yield name, path
                yield from _below(path, f"{name}/", above | {real}, function)
        elif path.is_file():
            yield name, path
        else:
            what = "leads nowhere" if path.is_symlink() else "is neither a file nor a folder"
            raise DeploymentError(function, f"its folder {folder} cannot be packed: {path} {what}")


def _member(name: str, size: int, *, runs: bool) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o755 if runs else 0o644
    return member


def _folder(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE
    member.mode = 0o755
    return member
