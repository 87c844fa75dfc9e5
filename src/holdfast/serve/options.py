"""What `holdfast serve` was asked to do. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from holdfast.queue.embedded import Durability


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
    """0: accept and keep, run nothing."""
    max_inflight: int = 64
    """Calls that each worker runs at once."""
    auth: bool = True
    """Whether /system needs the user and password."""
    ready_file: Path | None = None
    """Written, as JSON, when all parts are ready, and again whenever a part was started anew."""
