"""Bundles and wheels made by hand, as a client would send them or must not."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from holdfast.bundle import BundleImage


def bundle(
    files: Mapping[str, bytes | str],
    *,
    name: str = "hello",
    lang: str = "python3-http",
    members: Sequence[tarfile.TarInfo] = (),
    manifest: bytes | None = None,
) -> bytes:
    """An archive with a manifest, files below handler/, and whatever else `members` are."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        described = json.dumps({"name": name, "lang": lang}).encode() if manifest is None else manifest
        every = {"holdfast.json": described, **{f"handler/{path}": text for path, text in files.items()}}
        for path, text in every.items():
            data = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for member in members:
            archive.addfile(member)  # its content is missing, should its header claim that it has any
    return gzip.compress(content.getvalue(), mtime=0)  # no time: the same bytes in every process of the tests


def image_of(content: bytes, name: str = "hello") -> str:
    """What a bundle is called."""
    return str(BundleImage(name, hashlib.sha256(content).hexdigest()))


def wheel(folder: Path, module: str, source: str, version: str = "1.0") -> Path:
    """A library that can be installed without a network: one module in a wheel."""
    path = folder / f"{module}-{version}-py3-none-any.whl"
    info = f"{module}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}.py", source)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"{module}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path
