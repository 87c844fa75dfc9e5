"""Bundles: functions' folders that were sent here, unpacked and installed once for each content.

    <folder>/<digest>/handler/…     the function's files
    <folder>/<digest>/env/          what its requirements.txt asks for, an environment of its own
    <folder>/<digest>/bundle.json   written last: a folder without it is a leftover
    <folder>/.upload-…              an archive on its way

Deploying one is an ordinary deployment whose image is the bundle's name (holdfast.bundle). What may be in an archive is
decided in unpacking.py, how requirements are installed in install.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from holdfast.bundle import HANDLER, MANIFEST, REQUIREMENTS, BundleImage
from holdfast.errors import DeploymentError
from holdfast.function import DEPLOYABLE
from holdfast.provider.deployments import HANDLER_STYLES
from holdfast.provider.install import has_requirements, install, packages_folder, python_tag
from holdfast.provider.unpacking import unpack
from holdfast.unexpected import Work, alone, set_aside

KEEP_UNUSED_S = 24 * 3600.0
# A bundle that no function uses is somebody's who pushes today and deploys later; after a day it is nobody's.

_UPLOAD = ".upload-"
_RECORD = "bundle.json"
_ENVIRONMENT = "env"

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bundle:
    """One that can be run."""

    name: str
    language: str
    """A stack's `lang`; empty for a command."""
    files: Path
    """The folder that was packed."""
    packages: Path | None
    """Where its requirements are; None when it has none."""


class _Upload(NamedTuple):
    archive: Path
    digest: str
    size: int


class Bundles:
    """The bundles of one runtime and the routes to bring new ones."""

    def __init__(
        self,
        folder: Path,
        tasks: asyncio.TaskGroup,
        *,
        max_bytes: int,
        install_timeout_s: float,
        environ: Mapping[str, str],
    ) -> None:
        """`environ` is this process's own; what of it an installer sees is decided in install.py."""
        self._folder = folder
        self._tasks = tasks
        self._max_bytes = max_bytes
        self._install_timeout_s = install_timeout_s
        self._environ = environ
        # The same content sent twice at once is prepared once.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.routes = [
            Route("/system/bundles", self.list_bundles, methods=["GET"]),
            Route("/system/bundles", self.push, methods=["POST"]),
        ]

    # ---- for whoever deploys

    def resolve(self, image: str) -> Bundle | None:
        """The bundle that a deployment's image names; None for an image that is none.

        Raises DeploymentError for a bundle that is not here, or not for this Python any more.
        """
        named = BundleImage.parse(image)
        if named is None:
            return None
        folder = self._folder / named.digest
        record = _read_record(folder)
        if record is None or record["name"] != named.name:
            raise DeploymentError(
                named.name,
                f"bundle {named.digest[:12]} is not here: push it first, or build, push and deploy with `up`",
            )
        if record["python"] not in {"", python_tag()}:
            raise DeploymentError(
                named.name,
                f"the requirements of bundle {named.digest[:12]} were installed for {record['python']}, and this is "
                f"{python_tag()}: push it again",
            )
        packages = packages_folder(folder / _ENVIRONMENT) if record["python"] else None
        return Bundle(named.name, record["lang"], folder / HANDLER, packages)

    def sweep(self, images: Collection[str]) -> None:
        """Remove what nobody needs: halves of uploads, and bundles that are not among `images` for a day. Blocks."""
        if not self._folder.is_dir():
            return
        used = {named.digest for image in images if (named := BundleImage.parse(image)) is not None}
        for path in self._folder.iterdir():
            if path.name.startswith(_UPLOAD):
                path.unlink(missing_ok=True)
            elif path.name not in used and _age_s(path) > KEEP_UNUSED_S:
                log.info("removing a bundle that no function uses", digest=path.name)
                shutil.rmtree(path, ignore_errors=True)

    # ---- the routes

    async def list_bundles(self, _request: Request) -> Response:
        """`GET /system/bundles`: what is here, the newest first."""
        return JSONResponse(await asyncio.to_thread(self._listed))

    async def push(self, request: Request) -> Response:
        """`POST /system/bundles?name=hello`: takes the archive, then tells line by line what is done with it.

        Of the answer's lines the last says whether the bundle is ready; its status was sent long before.
        """
        name = request.query_params.get("name", "")
        if DEPLOYABLE.fullmatch(name) is None:
            raise HTTPException(400, f"name: {name[:100]!r} cannot be a function's name: 1 to 63 of a-z, 0-9 and -")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            raise self._too_large()
        upload = await self._receive(request)
        answer = self._answer(upload, BundleImage(name, upload.digest))
        return StreamingResponse(answer, media_type="application/x-ndjson")

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the bundle is larger than {self._max_bytes} bytes (max_bundle_bytes)")

    async def _receive(self, request: Request) -> _Upload:
        """Write the body to a file. Pieces go to the page cache: no thread is worth it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_UPLOAD, dir=self._folder)
        digest, size = hashlib.sha256(), 0
        with _removed_on_error(Path(name)) as archive, os.fdopen(handle, "wb") as file:
            async for piece in request.stream():
                size += len(piece)
                if size > self._max_bytes:
                    raise self._too_large()
                digest.update(piece)
                file.write(piece)
        return _Upload(archive, digest.hexdigest(), size)

    async def _answer(self, upload: _Upload, image: BundleImage) -> AsyncGenerator[str, None]:
        """Each step as it is done. Who does not listen to the end wants the bundle no more."""
        steps: asyncio.Queue[dict[str, str] | None] = asyncio.Queue()
        # A task of its own: that of a request whose client has left may not wait for anything any more, and ending an
        # installer and removing what it wrote take their time.
        telling = alone(
            Work.ANSWERING, lambda: self._tell(upload, image, steps.put_nowait), lambda _: steps.put_nowait(None)
        )
        preparing = self._tasks.create_task(telling)
        try:
            while (step := await steps.get()) is not None:
                yield _line(**step)
        finally:
            preparing.cancel()

    async def _tell(self, upload: _Upload, image: BundleImage, tell: Callable[[dict[str, str] | None], None]) -> None:
        """Prepare, and tell each step, how it ended, and None."""
        try:
            async with aclosing(self._prepare(upload, image)) as steps:
                async for step in steps:
                    tell(step)
            log.info("bundle ready", image=str(image))
            tell({"status": "ready", "image": str(image)})
        except DeploymentError as error:
            log.warning("bundle refused", image=str(image), error=str(error))
            tell({"status": "failed", "error": str(error)})
        except OSError as error:
            log.exception("bundle could not be kept", image=str(image))
            tell({"status": "failed", "error": f"{image.name}: the runtime cannot keep it: {error.strerror or error}"})
        except asyncio.CancelledError:
            log.info("bundle given up: its sender has left", image=str(image))
            raise
        except Exception as error:  # noqa: BLE001 - its sender is told, and the runtime goes on
            set_aside(Work.ANSWERING, error, image=str(image))
            tell({"status": "failed", "error": f"{image.name}: the runtime failed at it; its log says more"})
        finally:
            _remove(upload.archive)
            tell(None)

    async def _prepare(self, upload: _Upload, image: BundleImage) -> AsyncGenerator[dict[str, str], None]:
        folder = self._folder / image.digest
        async with self._locks.setdefault(image.digest, asyncio.Lock()):
            record = _read_record(folder)
            if record is not None and record["name"] != image.name:
                raise DeploymentError(image.name, f"bundle refused: {MANIFEST} in it is for {record['name']!r}")
            if record is not None and record["python"] in {"", python_tag()}:
                os.utime(folder / _RECORD)  # wanted again: its day begins anew
                yield {"status": "unpacking", "text": "this content is here already"}
                return
            try:
                async with aclosing(self._fill(folder, upload, image)) as steps:
                    async for step in steps:
                        yield step
            except BaseException:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                raise

    async def _fill(self, folder: Path, upload: _Upload, image: BundleImage) -> AsyncGenerator[dict[str, str], None]:
        yield {"status": "unpacking", "text": "unpacking"}
        language, wants_packages = await _to_the_end(_unpack_afresh, upload.archive, folder, image.name)
        python = ""
        if wants_packages:
            python = python_tag()
            installing = install(
                image.name,
                folder / HANDLER / REQUIREMENTS,
                folder / _ENVIRONMENT,
                self._environ,
                timeout_s=self._install_timeout_s,
            )
            async with aclosing(installing) as lines:
                async for line in lines:
                    yield {"status": "installing", "text": line}
        record = {
            "name": image.name,
            "lang": language,
            "python": python,
            "bytes": upload.size,
            "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        await _to_the_end(_complete, folder, record)

    def _listed(self) -> list[dict[str, Any]]:
        folders = self._folder.iterdir() if self._folder.is_dir() else iter(())
        found = [
            {
                "image": str(BundleImage(record["name"], folder.name)),
                **{key: record[key] for key in ("name", "lang", "bytes")},
                "createdAt": record["created_at"],
            }
            for folder in folders
            if (record := _read_record(folder)) is not None
        ]
        return sorted(found, key=lambda one: one["createdAt"], reverse=True)


def _unpack_afresh(archive: Path, folder: Path, name: str) -> tuple[str, bool]:
    """Gives `lang`, and whether there is something to install. Blocks. Raises DeploymentError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    manifest = unpack(archive, folder, name)
    if manifest.name != name:
        raise DeploymentError(name, f"bundle refused: {MANIFEST} in it is for {manifest.name!r}")
    handler = folder / HANDLER
    if manifest.language in HANDLER_STYLES and not (handler / "handler.py").is_file():
        raise DeploymentError(name, f"bundle refused: lang {manifest.language} needs a file handler.py in it")
    try:
        return manifest.language, has_requirements(handler / REQUIREMENTS)
    except UnicodeDecodeError as error:
        raise DeploymentError(name, f"bundle refused: {REQUIREMENTS} in it is not UTF-8 text") from error


def _complete(folder: Path, record: Mapping[str, Any]) -> None:
    """Say that the folder is complete, once all of it is on the disk: a bundle with empty files would stay for ever."""
    os.sync()
    fresh = folder / f".{_RECORD}"
    fresh.write_text(json.dumps(record), "utf-8")
    fresh.replace(folder / _RECORD)


def _read_record(folder: Path) -> dict[str, Any] | None:
    """What is known of a complete bundle, None for any other folder."""
    try:
        record: dict[str, Any] = json.loads((folder / _RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return record if {"name", "lang", "python", "bytes", "created_at"} <= record.keys() else None


def _age_s(folder: Path) -> float:
    try:
        return time.time() - (folder / _RECORD).stat().st_mtime
    except OSError:
        return float("inf")


async def _to_the_end(
    work: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Result:
    """Run blocking work on a thread, which cannot be ended: when cancelled, wait for its end before going on."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


@contextmanager
def _removed_on_error(path: Path) -> Iterator[Path]:
    try:
        yield path
    except BaseException:
        _remove(path)
        raise


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _line(**content: str) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"
