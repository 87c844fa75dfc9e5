"""What `holdfast serve` was asked to do. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from holdfast.queue.embedded import Durability


class QueueWorker(NamedTuple):
    """A queue besides the default one, which gets a worker of its own."""

    queue: str
    max_inflight: int | None
    """Calls that it runs at once; None: as many as each worker of the default queue."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The options of `holdfast serve`, checked by the command line."""

    data: Path
    """Folder of everything that lasts: JetStream's files, the password, logs of the runtime."""
    host: str = "127.0.0.1"
    port: int = 8080
    """Of the gateways; 0: any free one."""
    metrics_port: int = 8082
    """Of /metrics and /healthz; 0: any free one."""
    stack: str | None = None
    """The stack.yml to deploy; None: the samples that ship."""
    nats: str | None = None
    """URL of NATS servers to use; None: start one in the data folder."""
    durability: Durability = "disk"
    gateways: int = 1
    workers: int = 1
    """Of the default queue. 0: accept and keep, run nothing."""
    max_inflight: int = 64
    """Calls that each worker runs at once."""
    queues: tuple[QueueWorker, ...] = ()
    """Further queues, each with one worker process."""
    auth: bool = True
    """Whether /system needs the user and password."""
    ready_file: Path | None = None
    """Written, as JSON, when all parts are ready, and again whenever a part was started anew."""
