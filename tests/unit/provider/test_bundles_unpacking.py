import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from holdfast.bundle import BundleImage, Manifest
from holdfast.errors import DeploymentError
from holdfast.provider.unpacking import UnpackLimits, unpack
from tests.support.bundles import bundle

HANDLER = "def handle(event, context):\n    return 'hi'\n"


def unpacked(folder: Path, content: bytes, limits: UnpackLimits | None = None) -> Manifest:
    """Unpack into `into`, beside which nothing may appear."""
    (folder / "archive").write_bytes(content)
    (folder / "into").mkdir()
    try:
        return unpack(folder / "archive", folder / "into", "hello", limits or UnpackLimits())
    finally:
        assert sorted(path.name for path in folder.iterdir()) == ["archive", "into"]


def member(
    name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, target: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mode = kind, size, target, mode
    return info


def test_a_bundle_is_unpacked_with_its_folders_and_executables(tmp_path: Path) -> None:
    run = member("handler/bin/run.sh", mode=0o4777)
    content = bundle(
        {"handler.py": HANDLER, "lib/deep/a.txt": b"\0\xff"}, members=[member("handler/empty", tarfile.DIRTYPE), run]
    )
    assert unpacked(tmp_path, content) == Manifest("hello", "python3-http")
    handler = tmp_path / "into" / "handler"
    assert (handler / "handler.py").read_text() == HANDLER
    assert (handler / "lib" / "deep" / "a.txt").read_bytes() == b"\0\xff"
    assert (handler / "empty").is_dir()
    assert oct((handler / "bin" / "run.sh").stat().st_mode & 0o7777) == "0o755"
    assert oct((handler / "handler.py").stat().st_mode & 0o7777) == "0o644"


def test_an_archive_that_tar_made_of_the_folder_itself_will_do(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(member(".", tarfile.DIRTYPE))
        manifest = b'{"name": "hello", "lang": "python3", "more": 1}'
        archive.addfile(member("./holdfast.json", size=len(manifest)), io.BytesIO(manifest))
        archive.addfile(member("./handler/", tarfile.DIRTYPE))
        archive.addfile(member("./handler/" + "n" * 200, size=2), io.BytesIO(b"ok"))
    assert unpacked(tmp_path, content.getvalue()) == Manifest("hello", "python3")
    assert (tmp_path / "into" / "handler" / ("n" * 200)).read_text() == "ok"


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (member("../evil"), "leads out of"),
        (member("handler/../../evil"), "leads out of"),
        (member("/tmp/evil"), "leads out of"),  # noqa: S108 - it must not be written
        (member("elsewhere/evil"), "neither holdfast.json nor in handler/"),
        (member("handler"), "stands in it twice"),
        (member("handler/handler.py"), "stands in it twice"),
        (member("handler/handler.py/below"), "stands in it twice"),
        (member("handler/link", tarfile.SYMTYPE, target="/etc/passwd"), "is a link"),
        (member("handler/link", tarfile.SYMTYPE, target="handler.py"), "is a link"),
        (member("handler/link", tarfile.LNKTYPE, target="handler/handler.py"), "is a link"),
        (member("handler/null", tarfile.CHRTYPE), "neither a file nor a folder"),
        (member("handler/disk", tarfile.BLKTYPE), "neither a file nor a folder"),
        (member("handler/pipe", tarfile.FIFOTYPE), "neither a file nor a folder"),
        (member("handler/" + "a/" * 600 + "b"), "is too long"),
        (member("handler/" + "a" * 256), "is too long"),
        (member(os.fsdecode(b"handler/\xff")), "is not UTF-8"),
    ],
)
def test_what_is_no_plain_file_in_the_folder_is_refused(tmp_path: Path, refused: tarfile.TarInfo, message: str) -> None:
    with pytest.raises(DeploymentError, match=message) as caught:
        unpacked(tmp_path, bundle({"handler.py": HANDLER}, members=[refused]))
    assert str(caught.value).startswith("hello: bundle refused: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no whole tar.gz"),
        (b"PK\3\4 is a zip", "no whole tar.gz"),
        (gzip.compress(b"no tar" * 1000, mtime=0), "no whole tar.gz"),
        (bundle({"handler.py": HANDLER})[:-30], "no whole tar.gz"),
        (bundle({}), "no folder handler"),
        (bundle({"a": "b"}, manifest=b"{"), "holdfast.json is not JSON"),
        (bundle({"a": "b"}, manifest=b"[]"), "no name of a function"),
        (bundle({"a": "b"}, manifest=b'{"name": "../x"}'), "no name of a function"),
        (bundle({"a": "b"}, manifest=b'{"name": "x", "lang": "../x"}'), "a lang that cannot be one"),
        (bundle({"a": "b"}, manifest=b" " * 70_000 + b"{}"), "larger than 65536 bytes"),
    ],
)
def test_what_is_no_bundle_is_refused_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DeploymentError, match=message):
        unpacked(tmp_path, content)


def test_an_archive_without_a_manifest_is_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.addfile(member("handler", tarfile.DIRTYPE))
    with pytest.raises(DeploymentError, match=r"no holdfast\.json"):
        unpacked(tmp_path, content.getvalue())


def test_an_archive_that_becomes_huge_is_refused_before_it_has(tmp_path: Path) -> None:
    limits = UnpackLimits(max_bytes=100_000, max_files=10)
    zeros = bundle({"handler.py": HANDLER, "zeros": bytes(10_000_000)})
    assert len(zeros) < 20_000
    with pytest.raises(DeploymentError, match="unpacked it is larger than 100000 bytes"):
        unpacked(tmp_path, zeros, limits)
    assert not (tmp_path / "into" / "handler" / "zeros").exists()


@pytest.mark.parametrize("size", [-1, -513, -10_000])
def test_a_size_below_zero_makes_no_room_for_more(tmp_path: Path, size: int) -> None:
    below = member("handler/below", size=size).tobuf(tarfile.GNU_FORMAT)
    zeros = member("handler/zeros", size=90_000).tobuf(tarfile.GNU_FORMAT) + bytes(90_112)
    content = gzip.compress(below + zeros * 3 + bytes(1024), mtime=0)
    with pytest.raises(DeploymentError):
        unpacked(tmp_path, content, UnpackLimits(max_bytes=100_000, max_files=10))
    assert sum(path.stat().st_size for path in (tmp_path / "into").rglob("*") if path.is_file()) <= 100_000


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path) -> None:
    limits = UnpackLimits(max_files=10)
    with pytest.raises(DeploymentError, match="more than 10 files"):
        unpacked(tmp_path, bundle({f"{n}.txt": "" for n in range(20)}), limits)


def test_a_header_that_becomes_huge_is_refused_before_it_is_read(tmp_path: Path) -> None:
    content = io.BytesIO()
    info = member("handler/a")
    info.pax_headers = {"comment": "x" * 50_000_000}
    with tarfile.open(fileobj=content, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    assert len(content.getvalue()) < 100_000
    with pytest.raises(DeploymentError, match="a header in it is larger than 65536 bytes"):
        unpacked(tmp_path, content.getvalue())


def test_a_file_that_claims_to_be_longer_than_the_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="bundle refused"):
        unpacked(tmp_path, bundle({"handler.py": HANDLER}, members=[member("handler/more", size=500_000)]))


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    info = member("handler/sparse", tarfile.GNUTYPE_SPARSE)
    with pytest.raises(DeploymentError, match="bundle refused"):
        unpacked(tmp_path, bundle({"handler.py": HANDLER}, members=[info]))


def test_an_image_is_a_bundle_only_in_its_exact_form() -> None:
    digest = "0123456789abcdef" * 4
    assert BundleImage.parse(f"bundle:hello@sha256:{digest}") == BundleImage("hello", digest)
    for other in (
        "hello:latest",
        f"bundle:hello@sha256:{digest[1:]}",
        f"bundle:hello@sha256:{digest.upper()}",
        f"bundle:../x@sha256:{digest}",
        f"bundle:hello@sha256:{digest}\n",
        "",
    ):
        assert BundleImage.parse(other) is None
