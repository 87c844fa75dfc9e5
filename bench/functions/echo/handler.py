"""Answers with the body it gets: the least that a function can do."""

from __future__ import annotations

from typing import Any


def handle(event: Any, context: Any) -> Any:  # noqa: ARG001 - what a python3-http handler takes
    return event.body
