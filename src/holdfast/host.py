"""Which host this is, as far as loopback goes: one id for all who share their loopback and abstract Unix sockets.

Linux has these once for each network namespace, so containers of one machine are hosts of their own here, and those
of one pod are one host. The id is made of the boot's random id and the namespace's number, which are unlike on any two
machines but for copies of one running machine; whoever runs such copies names each by the setting `host_id`. Where
/proc does not say, the host's name stands for what is missing.
"""

from __future__ import annotations

import hashlib
import socket
from contextlib import suppress
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NETWORK_NAMESPACE = Path("/proc/self/ns/net")


def host_id(named: str = "") -> str:
    """The id of this host; `named` when its operator has given it one."""
    if named:
        return named
    facts = []
    with suppress(OSError):
        facts.append(BOOT_ID.read_text().strip())
    with suppress(OSError):
        namespace = NETWORK_NAMESPACE.stat()
        facts.append(f"{namespace.st_dev}:{namespace.st_ino}")
    if len(facts) < 2:
        facts.append(socket.gethostname())
    # A digest: the id is told to others, what it is made of is not theirs to know.
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]
