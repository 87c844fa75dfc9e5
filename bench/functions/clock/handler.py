"""Answers with the time at which it started, unix time in nanoseconds: what accept-to-start latency is measured by."""

from __future__ import annotations

import time
from typing import Any


def handle(event: Any, context: Any) -> str:  # noqa: ARG001 - what a python3-http handler takes
    return str(time.time_ns())
