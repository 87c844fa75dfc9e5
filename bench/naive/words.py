"""What the naive gateway and worker agree on: the environment they are started with, names in NATS."""

from __future__ import annotations

import json
import os

STREAM = "NAIVE"
SUBJECT = "naive.calls"
CONSUMER = "naive-worker"
INFLIGHT = 64
"""Calls that the worker runs at once, as many as Holdfast's."""

NATS_VARIABLE = "NAIVE_NATS"
FUNCTIONS_VARIABLE = "NAIVE_FUNCTIONS"

HOP_BY_HOP = frozenset(
    ("connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)


def nats_url() -> str:
    return os.environ[NATS_VARIABLE]


def functions() -> dict[str, str]:
    """Base URL by name: what a directory of functions would tell."""
    found: dict[str, str] = json.loads(os.environ[FUNCTIONS_VARIABLE])
    return found
