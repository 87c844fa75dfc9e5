"""A nats-server on a file system of a few megabytes, which can fill up and be made larger.

A tmpfs in a mount namespace of its own, for which Linux wants no privileges where it allows user namespaces. A process
of its own holds the namespace, so that the files outlive nats-server.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from holdfast.queue import embedded
from tests.support.nats import START_TIMEOUT_S, NatsServer


class SmallDisk(NatsServer):
    """Get it from `small_disk()`."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        super().__init__(folder, "os", embedded.MAX_PAYLOAD)
        # Left alone it would keep to three quarters of its disk, and never meet the end of it.
        self.config.write_text(self.config.read_text().replace("store_dir:", "max_file_store: 10G\n  store_dir:"))
        self._store = folder / "jetstream"
        self._store.mkdir()
        mount = f"mount -t tmpfs -o size={megabytes}m none {self._store} && echo mounted && exec sleep infinity"
        self._holder = subprocess.Popen(["unshare", "-rm", "sh", "-c", mount], stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"mounted\n", "this machine allows no mount namespaces"

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", "-t", str(self._holder.pid), "-U", "-m", "--preserve-credentials"]

    async def start(self) -> None:
        assert self._process is None, "it runs already"
        with (self.folder / "nats-server.log").open("ab") as log:
            argv = [*self._inside, *embedded.argv(embedded.find_binary(), self.config)]
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        await embedded.wait_ready(self.port, timeout_s=START_TIMEOUT_S)

    def grow(self, megabytes: int) -> None:
        """Make the disk larger, as an operator does."""
        remount = ["mount", "-o", f"remount,size={megabytes}m", str(self._store)]
        subprocess.run([*self._inside, *remount], check=True)

    def free_bytes(self) -> int:
        found = subprocess.run(
            [*self._inside, "df", "--output=avail", "-B1", str(self._store)], check=True, capture_output=True
        )
        return int(found.stdout.split()[-1])

    def close(self) -> None:
        self.kill()
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()


@contextlib.asynccontextmanager
async def small_disk(megabytes: int) -> AsyncIterator[SmallDisk]:
    """A running server whose disk has so many megabytes."""
    with tempfile.TemporaryDirectory(prefix="holdfast-nats-", ignore_cleanup_errors=True) as folder:
        server = SmallDisk(Path(folder), megabytes)
        try:
            await server.start()
            yield server
        finally:
            server.close()
