import os
import shutil
import tarfile
from pathlib import Path

import pytest

from holdfast.bundle import BundleImage, Manifest
from holdfast.cli.packing import archive_path, pack, packed_before
from holdfast.errors import DeploymentError
from holdfast.provider.unpacking import unpack

MANIFEST = Manifest("hello", "python3-http")


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as opened:
        return opened.getnames()


def test_what_is_packed_is_what_a_runtime_unpacks(tmp_path: Path) -> None:
    handler = tmp_path / "hello"
    write(handler, handler="x", lib__deep__data="y" * 100_000)
    (handler / "empty").mkdir()
    (handler / "handler").chmod(0o700)
    packed = pack(handler, MANIFEST, tmp_path / "build" / "hello.tar.gz")
    assert (packed.files, packed.image.name, packed.size) == (2, "hello", packed.path.stat().st_size)
    into = tmp_path / "into"
    into.mkdir()
    assert unpack(packed.path, into, "hello") == MANIFEST
    assert (into / "handler" / "lib" / "deep" / "data").read_text() == "y" * 100_000
    assert (into / "handler" / "empty").is_dir()
    assert os.access(into / "handler" / "handler", os.X_OK)


def test_the_same_files_give_the_same_bundle_whenever_and_wherever_they_lie(tmp_path: Path) -> None:
    images: set[BundleImage] = set()
    for place in ("one", "two"):
        write(tmp_path / place, b="2", a="1", c__d="3")
        os.utime(tmp_path / place / "a", (len(images), len(images)))
        (tmp_path / place / "b").chmod(0o600 if images else 0o664)
        images.add(pack(tmp_path / place, MANIFEST, tmp_path / f"{place}.tar.gz").image)
    assert len(images) == 1
    write(tmp_path / "two", a="other")
    assert pack(tmp_path / "two", MANIFEST, tmp_path / "two.tar.gz").image not in images


def test_histories_caches_and_environments_stay_behind(tmp_path: Path) -> None:
    write(tmp_path / "f", handler="", __pycache____x="", lib____pycache____y="", m="")
    for left_out in (".git/config", ".venv/bin/python", "lib/a.pyc", "__pycache__/z"):
        path = tmp_path / "f" / left_out
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = names(pack(tmp_path / "f", MANIFEST, tmp_path / "f.tar.gz").path)
    assert not [name for name in found if any(part in name for part in (".git", ".venv", "__pycache__", ".pyc"))]


def test_a_folder_that_holds_its_own_stack_file_does_not_pack_its_builds(tmp_path: Path) -> None:
    write(tmp_path, handler="")
    target = archive_path(tmp_path, "hello")
    first = pack(tmp_path, MANIFEST, target)
    assert pack(tmp_path, MANIFEST, target).image == first.image
    assert names(target) == ["holdfast.json", "handler", "handler/handler"]
    assert packed_before("hello", target) == first._replace(files=0)
    assert packed_before("other", archive_path(tmp_path, "other")) is None


def test_links_are_followed_and_never_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path / "shared", lib="shared")
    write(tmp_path / "f", handler="")
    (tmp_path / "f" / "lib").symlink_to(tmp_path / "shared" / "lib")
    (tmp_path / "f" / "folder").symlink_to(tmp_path / "shared")
    (tmp_path / "f" / "circle").symlink_to(tmp_path / "f")
    (tmp_path / "shared" / "back").symlink_to(tmp_path / "f")
    found = names(pack(tmp_path / "f", MANIFEST, tmp_path / "f.tar.gz").path)
    assert found == ["holdfast.json", *(f"handler{n}" for n in ("", "/folder", "/folder/lib", "/handler", "/lib"))]


def test_what_cannot_be_packed_is_named_and_the_bundle_before_stays(tmp_path: Path) -> None:
    write(tmp_path / "f", handler="")
    before = pack(tmp_path / "f", MANIFEST, tmp_path / "f.tar.gz")
    (tmp_path / "f" / "nowhere").symlink_to("/no/such/place")
    with pytest.raises(DeploymentError, match="nowhere leads nowhere"):
        pack(tmp_path / "f", MANIFEST, tmp_path / "f.tar.gz")
    (tmp_path / "f" / "nowhere").unlink()
    os.mkfifo(tmp_path / "f" / "pipe")
    with pytest.raises(DeploymentError, match="pipe is neither a file nor a folder"):
        pack(tmp_path / "f", MANIFEST, tmp_path / "f.tar.gz")
    shutil.rmtree(tmp_path / "f")
    with pytest.raises(DeploymentError, match="cannot be packed"):
        pack(tmp_path / "f", MANIFEST, tmp_path / "f.tar.gz")
    assert packed_before("hello", tmp_path / "f.tar.gz") == before._replace(files=0)
    assert [path.name for path in tmp_path.iterdir()] == ["f.tar.gz"]
